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
# The settings: how long the two small networks train, how many pictures we count on, and where the course lies.

# %%
SEED, STEPS, PICTURES = 0, 150, 64
NEAR = 6  # pixels: "at the key" means at most this far from its middle, down and across
HOME = Path(plots.__file__).parents[2]

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
# The record holds the sizes of the two grids, and the queries and keys themselves:

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
# with 0 at the top left. (A cell is drawn around the middle of what it sees. The first one has the first pixel
# there, so that it sticks out of the picture by a half, and a strip at the right and lower edge is left.)

# %%
chosen = validation.scenes[0].pairs[0]
query = looked.query_at(chosen.lock.row, chosen.lock.column)
guessing = explorer.show(looked, query=query, guess=True)

# %% [markdown]
# **Click where you think that it looks**, or move with the arrow keys and press Enter. Only then the maps appear.
# Without a kernel, write your guess into the next cell as (row, column); the one that stands there is the middle.

# %%
GUESS, clicked = (4, 4), getattr(guessing, "guess", -1)
if clicked >= 0:
    GUESS = divmod(clicked, looked.key_grid[1])

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
# Now move the query yourself. Point anywhere on the picture, and every map follows; a click locks the query, so that
# you can look at the maps, and another frees it. Arrow keys move it. Before each of these, say what you expect:
#
# 1. Go from lock to lock with the buttons. Does the same head find the key each time? The count beneath says how much
#    of its reading the best head puts on the right key, over all locks of the picture.
# 2. Point at a *key*, then at the bare background. What do they read, and how decided are they (the bar under a head)?
# 3. Set the direction to "who reads a key" and point at a coloured shape. Who reads it?
# 4. Raise the temperature. That is no longer the layer, and the page says so; what happens to the entropy?
# 5. Ask the kernel, at the bottom, to hide the strongest keys from this place: does the answer change?
#
# Everything but the last is computed in your browser, from the queries and keys in the record. Without a running
# notebook you see the picture beneath instead: the second lock, where the explorer starts.

# %%
pairs = validation.scenes[0].pairs
second = looked.query_at(pairs[1].lock.row, pairs[1].lock.column)
view = explorer.show(looked, query=second, pairs=pairs, model=halved)

# %% [markdown]
# The box beside the first map is not small print. A weight tells what is *mixed in*. Whether it
# *matters* is another question, and section 6 puts it to the test.

# %% [markdown]
# ## 4 · One picture proves nothing
#
# A single map may be luck, or chosen because it is pretty. So we count, over all locks of many pictures: how
# often does the strongest key of a head lie at the matching key? And how often would a key drawn blindly?
# Keys at every second cell are twice as far apart as "near" allows, and each shape lies on the middle of one.
# So this is notebook 1's count of the exact cell, here on fewer of the same pictures.


# %%
hits = explorer.at_the_key(halved, validation.scenes, pictures, NEAR)
for head, share in enumerate(hits.heads):
    print(f"head {head}: {share:.0%} of {len(hits.found)} locks; blindly {hits.blindly:.1%}")

# %% [markdown]
# Read together:

# %%
Markdown(
    f"Head {hits.best_head} finds the key for {hits.best:.0%} of the locks, the weakest for {hits.heads.min():.0%}, "
    f"and at least one head for {hits.any_head:.0%}. {(hits.heads > 0.5).sum()} of {len(hits.heads)} heads find it for "
    "more than half of the locks: these do much the same work. Other seeds were not run."
)

# %% [markdown]
# ## 5 · How sharply does it choose?
#
# The **entropy** of a query's weights is low when it reads few keys. With $N$ keys it is at most $\log_2 N$
# bits, the dashed line: then all are read alike and nothing was chosen. A bar holds the middle four fifths of
# a head's queries. They are those of one picture, the one above; the count below it takes all pictures.

# %%
plots.show(plots.entropy_figure([looked], ["kv_stride 2"]), plots.entropy_alt([looked], ["kv_stride 2"]))

# %% [markdown]
# Only locks were graded in training; at all other cells the probe may read whatever it likes. Do the locks
# choose more sharply than the rest? We pool the locks of all pictures, and all other cells:

# %%
at_locks, elsewhere = [], []
for scene, picture in zip(validation.scenes, pictures, strict=True):
    seen = record.capture(halved, picture, said)[0]
    locks = [seen.query_at(pair.lock.row, pair.lock.column) for pair in scene.pairs]
    at_locks.append(seen.entropy()[:, locks])
    elsewhere.append(np.delete(seen.entropy(), locks, axis=1))

# %% [markdown]
# The medians over all heads:

# %%
for name, bits in (("at the locks", at_locks), ("at all other cells", elsewhere)):
    middle = np.median(np.concatenate(bits, axis=1))
    print(f"{name}, over {PICTURES} pictures: median entropy {middle:.2f} bits")

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

# %% [markdown]
# What follows from the two shares:

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
# So do not read the maps to the pixel: a bright cell may well be about something beside it. The deeper a layer
# lies, the more so; section 9 prints how much a key of the detector knows of.

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
# And both in the explorer, where `kv_stride` switches between them at the same place, and "beside it" shows the
# two next to each other:

# %%
strides_view = explorer.show(list(strides.values()), query=query, pairs=pairs)

# %% [markdown]
# A bright square need not lie on the key itself. With a key for every cell, the cells beside a shape see parts
# of it too, and a head may read its colour from one of them. How far is it from the middle of the lock's own key
# to the middle of the strongest key of each head?

# %%
middle = np.array((chosen.key.row, chosen.key.column)) + 0.5  # the middle of a pixel
for name, seen in strides.items():
    strongest = seen.rows(seen.query_at(*place)).reshape(seen.num_heads, -1).argmax(axis=1)
    away = np.abs(seen.key_centres()[strongest] - middle).max(axis=1)
    print(f"{name}: {', '.join(f'{pixels:.0f}' for pixels in away)} pixels")

# %% [markdown]
# Now over all pictures, as in section 4. "Near" is one cell of the map, so with a key for every cell up to nine
# keys are near, with every second one only one. Therefore the blind share stands beside each:

# %%
full_hits = explorer.at_the_key(full, validation.scenes, pictures, NEAR)
for (name, seen), model, found in zip(strides.items(), (full, halved), (full_hits, hits), strict=True):
    last = model.history[-1]
    print(
        f"{name}: {seen.k.shape[1]} keys in {seen.key_bytes:,} bytes, {last.accuracy:.1%} right in {last.seconds:.0f} s"
    )
    print(f"    best head at the key for {found.best:.0%} of the locks, blindly {found.blindly:.1%}")

# %% [markdown]
# In words:

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
# map. We look at all three. (Its decoder has attention, too, but that reads a few points and not a grid. The explorer
# below shows these.)

# %%
detector = rtdetr.load(HOME / "data/weights/rtdetr-nano-mobile-mqa.safetensors")
scenes, photos = zip(*keys_and_locks.stream(SEED, PICTURES, "val"), strict=True)

# %% [markdown]
# The pictures are the validation pictures that come with the course, which the detector was not trained on.

# %%
layers = record.capture(detector, photos[0], size=scenes[0].size)
for seen in layers:
    print(f"{explorer.layer_name(seen)}, {seen.key_bytes:,} bytes of keys")

# %% [markdown]
# What a detector was trained on is written in the card beside its weights, and the record takes it from there:

# %%
Markdown(f"**What these weights are:** {layers[0].weights_are}")

# %% [markdown]
# The same lock in all three layers. Note how large a cell is in each: the coarser the map, the less a cell
# can say where. Each row has its own scale.

# %%
spot = (scenes[0].pairs[0].lock.row, scenes[0].pairs[0].lock.column)
titles = [f"{seen.layer.removesuffix('.attn')}: {seen.kind}" for seen in layers]
plots.show(plots.same_pixel_figure(layers, titles, *spot), plots.same_pixel_alt(layers, *spot))

# %% [markdown]
# How much of the picture does the strongest key of head 0 know of in each layer, as in section 7?

# %%
for number, seen in enumerate(layers):
    strongest = seen.top(seen.query_at(*spot), 0, 1)[0].key
    part = record.reach(detector, photos[0], seen.layer, strongest, size=scenes[0].size)
    share = (part.bottom - part.top) * (part.right - part.left) / scenes[0].size ** 2
    print(f"{titles[number]}: a key knows of up to {share:.0%} of the picture")

# %% [markdown]
# Behind the first attention a key can know of everything, so that the place of a bright cell says little about
# what is read there. And the explorer, with everything that this detector has: its layers (the place stays when
# the layer changes; "beside it" puts AIFI next to Mobile MQA), and at the bottom the points at which its decoder
# read the picture for a detection. Guess before you choose one: do the points lie on the object, or on its edge?

# %%
place_in_layer = layers[0].query_at(*spot)
found = explorer.look(detector, photos[0], "a validation picture", size=scenes[0].size)
detector_view = explorer.show(found, query=place_in_layer, pairs=scenes[0].pairs, model=detector)

# %% [markdown]
# What each head chooses, over all places of this one picture:

# %%
names = [f"{seen.layer.removesuffix('.attn')} {seen.kind}" for seen in layers]
plots.show(plots.entropy_figure(layers, names), plots.entropy_alt(layers, names))

# %% [markdown]
# Again we count, over all pictures. From one key of the detector's first layer to the next it is 16 pixels, and a
# shape may lie anywhere between, so "near" is 16 pixels here.

# %%
detected = [explorer.at_the_key(detector, scenes, photos, 16, layer) for layer in range(len(layers))]
for name, found in zip(names, detected, strict=True):
    print(f"{name}: best head {found.best:.0%} of {len(found.found)} locks, blindly {found.blindly:.0%}")

# %% [markdown]
# A high number is no wonder where a block was trained for it: the card above says that the backbone first learnt
# "densely", which is to name the colour at every lock, the probe's task. A number near the blind one does not say
# that a layer fails: nobody asked it to look there, and the decoder has attention of its own.
#
# One thing hides in this count. It asks the cell that is centred nearest to the lock. That training asked another
# one: it cut the picture into squares of 8 pixels and took the square that the lock's middle fell in. So we count
# apart the locks for which the two are the same cell, and the others:

# %%
asked, taught = [], []
for scene in scenes:
    for lock in (pair.lock for pair in scene.pairs):
        asked.append(layers[0].query_at(lock.row, lock.column))
        taught.append(lock.row // 8 * layers[0].query_grid[1] + lock.column // 8)

# %% [markdown]
# And the best head of the first layer for each kind:

# %%
same = np.equal(asked, taught)
for name, chosen_locks in (("the cell that was trained", same), ("a cell beside it", ~same)):
    share = detected[0].found[chosen_locks, detected[0].best_head].mean()
    print(f"asked at {name}: {share:.0%} of {chosen_locks.sum()} locks")

# %% [markdown]
# What a layer does at a place depends on whether it was ever graded there.

# %% [markdown]
# ## What you know now
#
# You can look at the attention of any model with Mobile MQA, or of any RT-DETR, on your own picture:
# `explorer.show(explorer.look(model, "photo.jpg"))` in a notebook, or, as a page that you can send to anyone and
# that opens without a kernel or a network, `python -m mqa_lib explore best.pt photo.jpg -o attention.html`. You
# know to read such a map together with its scale, its uniform level and what a key knows, to count instead of
# picking a pretty picture, and to test whether what is read matters. Not measured here: large detectors,
# photographs, and more than one seed.
#
# [Notebook 5](05_integrate_into_rtdetr.ipynb) shows how the layer gets into RT-DETR.

# %% tags=["result"]
print(
    f"the best head reads the lock's own key for {hits.best:.0%} of {len(hits.found)} locks (blindly "
    f"{hits.blindly:.1%}); with it painted over {painted.strongest:.0%} stay right, with a random key "
    f"{painted.control:.0%}; detector {detected[0].best:.0%} (blindly "
    f"{detected[0].blindly:.0%})"
)
