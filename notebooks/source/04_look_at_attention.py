# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 4 · What does it look at?
#
# Attention can be looked at: for every place of a picture the layer computes how much it reads from every
# other place, and those numbers can be drawn back on the picture. In this notebook you guess where a trained
# layer looks, see where it does, move around in it with an explorer, and then ask how far such pictures can
# be trusted.
#
# What you need from [notebook 2](02_derive_the_formula.ipynb): a **query** $q$ is what a place asks, a
# **key** $k$ is what a place offers, and a place reads another with the **weight** $\mathrm{softmax}(q \cdot
# k / \sqrt{d})$, where $d$ is the length of $q$ and $k$. The weights of a query sum to 1. A **head** is one
# set of queries. In Mobile MQA all heads share one set of keys, and `kv_stride` says how much coarser the
# grid of keys is than the map.

# %% tags=["setup"]
# (the build puts notebooks/source/_setup.py here, the same in all seven)

# %%
from pathlib import Path

import numpy as np
from IPython.display import Markdown

from mqa_lib import explorer, plots, probe, record, rtdetr
from mqa_lib.datasets import keys_and_locks

# %% [markdown]
# The settings: how long the two small networks train, and how many pictures we count on.

# %%
SEED, STEPS, PICTURES = 0, 150, 64
NEAR = 12  # pixels: "at the key" means at most this far from its middle, down and across
HOME = next(
    (folder for folder in (Path.cwd(), *Path.cwd().parents) if (folder / "data").is_dir()), Path("mobile-mqa")
)

# %% [markdown]
# ## 1 · Something worth looking at
#
# In Keys & Locks, a filled shape is a key, a white outline is a lock, and a lock's class is the colour of the
# key of the same shape, wherever that is. The probe of [notebook 1](01_see_it_first.ipynb) has to name that
# colour at the lock, and only attention can bring it there. We train it now, with keys at every second cell:

# %%
halved = probe.train("mobile-mqa", kv_stride=2, seed=SEED, steps=STEPS)
score = halved.history[-1]
print(
    f"{score.accuracy:.1%} of the locks right after {score.seconds:.0f} seconds; guessing gives {probe.CHANCE:.0%}"
)

# %% [markdown]
# `record.capture` runs a model once on a picture, and keeps the queries and keys of every attention layer
# that it finds. We say what the weights are, and from then on the record says it wherever it is shown.

# %%
validation = probe.draw(PICTURES, seed=10_000, split="val")
pictures = [picture.permute(1, 2, 0).numpy() for picture in validation.pictures]
said = f"A probe trained in this notebook for {STEPS} steps, {score.accuracy:.1%} of new locks right."
looked = record.capture(halved, pictures[0], said)[0]

# %% [markdown]
# What the record holds:

# %%
print(explorer.layer_name(looked))
print(
    f"q {looked.q.shape}, k {looked.k.shape}: {'one set of keys' if looked.shares_keys else 'keys for each head'}"
)

# %% [markdown]
# ## 2 · Guess first
#
# One lock is chosen below, and the cell at its middle is outlined. That cell asks. **Which key will it
# read?** Count in cells of the grid of keys, which has half as many rows and columns as the map, beginning
# with 0 at the top left.

# %%
chosen = validation.scenes[0].pairs[0]
query = looked.query_at(chosen.lock.row, chosen.lock.column)
plots.show(
    plots.query_figure(looked, query),
    f"Shapes and outlines; a cell of the outlined {chosen.shape} is marked.",
)

# %% [markdown]
# Write your guess as (row, column). The one that stands here is the middle of the picture.

# %%
GUESS = (4, 4)

# %% [markdown]
# Here is what each head reads there, beside the key that it reads most:

# %%
guessed = looked.rows(query)[:, GUESS[0], GUESS[1]]
for head, share in enumerate(guessed):
    best = looked.top(query, head, 1)[0]
    print(
        f"head {head}: your key {share:6.1%}, its strongest key (row {best.row}, column {best.column}) {best.share:.1%}"
    )

# %% [markdown]
# And here it is as a picture. The upper maps lie on the picture, the lower ones are the bare grid. The dotted
# line in the colour bar is where every key would be if the head chose nothing. The number of **bits** above
# each map is its entropy: 0 when a head reads one key only, and the larger number when it reads all alike.

# %%
plots.show(plots.explorer_figure(looked, query), plots.explorer_alt(looked, query))

# %% [markdown]
# ## 3 · The explorer
#
# Now move the query yourself, by the sliders or by the arrow keys when a slider has the focus. Try a key, a
# lock, and the background. (Sliders need a running kernel. The picture and the table beneath them say the
# same for one place.)

# %%
view = explorer.show(looked, query=query)

# %% [markdown]
# The same for a second lock, as a picture that needs no kernel:

# %%
other = validation.scenes[0].pairs[1]
explorer.show(looked, mode="static", query=looked.query_at(other.lock.row, other.lock.column))

# %% [markdown]
# The last paragraph beneath the table is not small print. A weight tells what is *mixed in*. Whether it
# *matters* is another question, and section 6 puts it to the test.

# %% [markdown]
# ## 4 · One picture proves nothing
#
# A single map may be luck, or chosen because it is pretty. So we count, over all locks of many pictures: how
# often does the strongest key of a head lie at the matching key? And how often would a key drawn blindly?


# %%
hits = explorer.at_the_key(halved, validation.scenes, pictures, NEAR)
for head, share in enumerate(hits.heads):
    print(f"head {head}: {share:.0%} of {len(hits.found)} locks; blindly {hits.blindly:.0%}")

# %%
Markdown(
    f"Nobody told the heads to share the work. Head {hits.best_head} finds the key for {hits.best:.0%} of the "
    f"locks, the weakest for {hits.heads.min():.0%}, and at least one head for {hits.any_head:.0%}. Another seed, "
    "another order."
)

# %% [markdown]
# ## 5 · How sharply does it choose?
#
# The **entropy** of a query's weights is low when it reads few keys. With $N$ keys it is at most $\log_2 N$
# bits, the dashed line: then all are read alike and nothing was chosen. A bar holds the middle four fifths of
# a head's queries.

# %%
plots.show(plots.entropy_figure([looked], ["kv_stride 2"]), plots.entropy_alt([looked], ["kv_stride 2"]))

# %% [markdown]
# Only locks were graded in training; at all other cells the probe may read whatever it likes. Do the locks
# choose more sharply than the rest?

# %%
locks = [looked.query_at(pair.lock.row, pair.lock.column) for pair in validation.scenes[0].pairs]
rest = np.setdiff1d(np.arange(looked.q.shape[1]), locks)
at_locks, elsewhere = (float(np.median(looked.entropy()[:, queries])) for queries in (locks, rest))
print(
    f"median entropy at the {len(locks)} locks {at_locks:.2f} bits, at all other cells {elsewhere:.2f} bits"
)

# %% [markdown]
# ## 6 · Does it matter?
#
# A strong weight need not be a reason. Here is a test that could fail: we paint over the cells that the
# strongest key is made from, and see whether the answer, the colour that the network names at the lock, is
# still right. As a control we paint over as large a part around a key drawn blindly. A part that touches the
# lock itself is left out, for painting over the question proves nothing.


# %%
painted = explorer.painted_over(halved, validation.scenes, pictures, hits.best_head, SEED)
print(f"still right with the strongest key painted over: {painted.strongest:.0%} of {painted.locks[0]} locks")
print(f"still right with a random key painted over: {painted.control:.0%} of {painted.locks[1]} locks")

# %%
verdict = "The answers hang on it." if painted.strongest < painted.control - 0.1 else "The two are close."
Markdown(
    f"{verdict} (A guess would be right for {probe.CHANCE:.0%}.) That is a finding about *this* network on *this* "
    "task. For another one, make the test again before you believe its pictures."
)

# %% [markdown]
# ## 7 · What a key knows
#
# The map marks a cell, but a cell is not all that a key knows. Convolutions ran before the layer, and one
# more made the key. So a key was made from the purple cells, and a change anywhere in the orange part can
# change it:

# %%
strongest = looked.top(query, hits.best_head, 1)[0].key
reach = record.reach(halved, pictures[0], looked.layer, strongest)
plots.show(plots.reach_figure(looked, strongest, reach), plots.reach_alt(looked, strongest, reach))

# %% [markdown]
# So do not read the maps to the pixel. In RT-DETR, whose deep cells know of most of the picture, a bright
# cell may well be about something beside it.

# %% [markdown]
# ## 8 · What down-sampling changes
#
# The same probe with `kv_stride=1`: a key for every cell, four times as many. Same seed, same pictures, same
# steps.

# %%
full = probe.train("mobile-mqa", kv_stride=1, seed=SEED, steps=STEPS)
full_said = f"A probe trained in this notebook for {STEPS} steps, {full.history[-1].accuracy:.1%} right."
strides = {"kv_stride 1": record.capture(full, pictures[0], full_said)[0], "kv_stride 2": looked}

# %% [markdown]
# The same lock of the same picture, the layer with all keys above, the one with a quarter of them below:

# %%
place = (chosen.lock.row, chosen.lock.column)
figure = plots.same_pixel_figure(list(strides.values()), list(strides), *place)
plots.show(figure, plots.same_pixel_alt(list(strides.values()), *place))

# %% [markdown]
# And in numbers:

# %%
full_hits = explorer.at_the_key(full, validation.scenes, pictures, NEAR)
for (name, seen), model, found in zip(strides.items(), (full, halved), (full_hits, hits), strict=True):
    last = model.history[-1]
    print(
        f"{name}: {seen.k.shape[1]} keys in {seen.key_bytes:,} bytes, {last.accuracy:.1%} right in {last.seconds:.0f} s"
    )
    print(f"    best head at the key for {found.best:.0%} of the locks, blindly {found.blindly:.0%}")

# %%
gap = halved.history[-1].accuracy - full.history[-1].accuracy
Markdown(
    f"With a quarter of the keys the probe names {abs(gap) * 100:.1f} points {'more' if gap >= 0 else 'fewer'} of the "
    "locks, and its maps are coarser. That is one seed of one task, made so that a shape fits a cell; a task with "
    "smaller things has more to lose, and its own measurement to make."
)

# %% [markdown]
# ## 9 · A detector
#
# Now RT-DETR. The small one that comes with the course has three layers with attention over a grid: two of
# Mobile MQA in its backbone, and **AIFI**, the multi-head attention that RT-DETR has anyway, on its coarsest
# map. We look at all three. (Its decoder has attention, too, but that reads a few points and not a grid.)

# %%
WEIGHTS = HOME / "data/weights/rtdetr-nano-mobile-mqa.safetensors"
trained = WEIGHTS.exists()
detector = rtdetr.load(WEIGHTS if trained else "rtdetr-nano-mobile-mqa")
detector_said = None if trained else "Random: no trained weights lie in this copy of the course."
scenes, photos = zip(*keys_and_locks.stream(SEED, PICTURES, "val"), strict=True)

# %% [markdown]
# The pictures are the validation pictures that come with the course, which the detector was not trained on.

# %%
layers = record.capture(detector, photos[0], detector_said, size=scenes[0].size)
for seen in layers:
    print(f"{explorer.layer_name(seen)}, {seen.key_bytes:,} bytes of keys")

# %%
Markdown(f"**What these weights are:** {layers[0].weights_are}")

# %% [markdown]
# The same lock in all three layers. Note how large a cell is in each: the coarser the map, the less a cell
# can say where.

# %%
spot = (scenes[0].pairs[0].lock.row, scenes[0].pairs[0].lock.column)
titles = [f"{seen.layer.removesuffix('.attn')}: {seen.kind}" for seen in layers]
plots.show(plots.same_pixel_figure(layers, titles, *spot), plots.same_pixel_alt(layers, *spot))

# %% [markdown]
# And the explorer on it, with a menu for the layer. It keeps the place when the layer changes.

# %%
detector_view = explorer.show(layers, query=layers[0].query_at(*spot))

# %% [markdown]
# The picture above shows one place of it without a kernel. What each head chooses, over all places:

# %%
names = [f"{seen.layer.removesuffix('.attn')} {seen.kind}" for seen in layers]
plots.show(plots.entropy_figure(layers, names), plots.entropy_alt(layers, names))

# %% [markdown]
# Again we count. A key of the detector's first layer stands for 16 pixels, so "near" is 16 pixels here.

# %%
detected = [explorer.at_the_key(detector, scenes, photos, 16, layer) for layer in range(len(layers))]
for name, found in zip(names, detected, strict=True):
    print(f"{name}: best head {found.best:.0%} of {len(found.found)} locks, blindly {found.blindly:.0%}")

# %%
state = "trained" if trained else "random, so that nothing can be concluded from them"
Markdown(
    f"These weights are {state}. A high number is no wonder where a block was trained for it: the card above says "
    "whether the backbone first learnt to name the colour at every lock, which is the probe's task. A number near "
    "the blind one does not say that a layer fails: nobody asked it to look there, and the decoder has attention "
    "of its own."
)

# %% [markdown]
# ## What you know now
#
# You can look at the attention of any model with Mobile MQA, or of any RT-DETR, on your own picture:
# `record.capture(model, "photo.jpg")`, then `explorer.show(records)`. You know to read such a map together
# with its scale, its uniform level and what a key knows, to count instead of picking a pretty picture, and to
# test whether what is read matters. Not measured here: large detectors, photographs, and more than one seed.
#
# [Notebook 5](05_integrate_into_rtdetr.ipynb) shows how the layer gets into RT-DETR.

# %% tags=["result"]
print(
    f"the best head reads the lock's own key for {hits.best:.0%} of {len(hits.found)} locks (blindly "
    f"{hits.blindly:.0%}); with it painted over {painted.strongest:.0%} stay right, with a random key "
    f"{painted.control:.0%}; detector{'' if trained else ' (random weights)'} {detected[0].best:.0%} (blindly "
    f"{detected[0].blindly:.0%})"
)
