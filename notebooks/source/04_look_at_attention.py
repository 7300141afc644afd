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
# other place, and those numbers can be drawn back on the picture. Such pictures convince quickly, too quickly.
# Here you guess first where a trained layer looks, then see it, move around in it, and put it to the test.
#
# **What you need:** [notebook 2](02_derive_the_formula.ipynb). A **query** is what a place asks, a **key** what a place
# offers, and a place reads another with the **weight** $\mathrm{softmax}(q \cdot k / \sqrt{d})$, where $d$ is the
# length of $q$ and $k$. The weights of a query sum to 1. A **head** is one set of queries. In Mobile MQA all heads
# share one set of keys, and `kv_stride` says how much coarser the grid of keys is than the map.
#
# **What you will have:** maps that you can read with their scale and their limits; a count in place of a pretty
# picture; a test whether what is read matters; what down-sampling the keys lost, and where; and a page with the
# attention of a detector, in one file that you can send to anyone.

# %% tags=["setup"]
# (the build puts notebooks/source/_setup.py here, the same in all seven)

# %%
import json
import tempfile
from pathlib import Path

import numpy as np
import torch
from IPython.display import Markdown

from mqa_lib import exercises, explorer, labs, plots, probe, record, rtdetr
from mqa_lib.datasets import keys_and_locks

# %% [markdown]
# The settings: the seed, how many pictures we count on, and where the course lies.

# %%
SEED, PICTURES = 0, 64
NEAR = 6  # pixels: "at the key" means at most this far from its middle, down and across
HOME = Path(plots.__file__).parents[2]

# %%
exercises.progress("04")

# %%
print(exercises.minutes("04"))

# %% [markdown]
# ## 1 · Something worth looking at
#
# In Keys & Locks, a filled shape is a key, a white outline is a lock, and a lock's class is the colour of the
# key of the same shape, wherever that is. The probe of [notebook 1](01_see_it_first.ipynb) has to name that
# colour at the lock, and only attention can bring it there. Notebook 1 trained it before your eyes; here we load one
# that was trained in the same way, with keys at every second cell:

# %%
halved = probe.load(2)
weights_are = {
    n: json.loads((probe.WEIGHTS / f"stride-{n}.json").read_text())["weights_are"] for n in probe.STRIDES
}
print(weights_are[2])

# %% [markdown]
# `record.capture` runs a model once on a picture, and keeps the queries and keys of every attention layer
# that it finds. We say what the weights are, and from then on the record says it wherever it is shown.

# %%
validation = probe.draw(PICTURES, seed=10_000, split="val")
pictures = [picture.permute(1, 2, 0).numpy() for picture in validation.pictures]
looked = record.capture(halved, pictures[0], weights_are[2])[0]

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
# ### Exercise 04-where · predict · 1 min · ●○○
#
# A cell at the middle of a lock asks. What will the best of the four heads read most? One of "the lock itself",
# "the nearest shape", "the key of the same shape", "everything alike".

# %%
prediction = None  # one of the four


exercises.check("04-where", prediction)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# What must the network say at this cell, and where in the picture does it stand?
# </details>
#
# <details><summary>Hint 2</summary>
#
# A lock's class is a colour that the lock itself does not have.
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# prediction = "the key of the same shape"
# ```
#
# Only that key has the colour. That a head *may* look there is no proof that it does: section 4 counts.
# </details>
#
# Now for one picture. One lock is chosen below, and the cell at its middle is outlined. That cell asks. **Which key
# will it read?** Count in cells of the grid of keys, which has half as many rows and columns as the map, beginning
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
#
# > **Attention is not explanation.** A weight says what is *mixed in* at this layer. It does not say that the answer
# > hangs on it, nor what the key had gathered before from other places. Sections 6 and 7 test the one and the other;
# > until then, a bright cell is a hint and no reason.

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
# Before we go on, what does such a number say?

# %%
exercises.quiz("04-weight")

# %% [markdown]
# ## 4 · One picture proves nothing
#
# A single map may be luck, or chosen because it is pretty. So we count, over all locks of many pictures: how
# often does the strongest key of a head lie at the matching key? And how often would a key drawn blindly?
# Keys at every second cell are twice as far apart as "near" allows, and each shape lies on the middle of one.
# So a hit is the very key of the cell in which the shape lies.


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
# bits, the dashed line: then all are read alike and nothing was chosen.
#
# ### Exercise 04-entropy · implement · 5 min · ●●○
#
# Write `entropy(weights)`: for weights (heads, queries, keys), return the bits of every query, (heads, queries):
# $-\sum_i w_i \log_2 w_i$. A weight can be exactly 0, and then adds nothing.


# %%
def entropy(weights):
    raise NotImplementedError  # return (heads, queries)


exercises.check("04-entropy", entropy)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Which axis sums to 1? That is the one to sum over. What is the logarithm of 0 in PyTorch?
# </details>
#
# <details><summary>Hint 2</summary>
#
# `torch.xlogy(w, w)` is $w \ln w$, and 0 where w is 0. A natural logarithm divided by the one of 2 gives bits.
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def entropy(weights):
#     return -torch.xlogy(weights, weights).sum(-1) / torch.log(torch.tensor(2.0))
# ```
#
# With $N$ equal weights every term is $\frac1N \log_2 N$, and $N$ of them make $\log_2 N$: the dashed line.
# </details>
#
# Now all queries of the picture above. A bar holds the middle four fifths of a head's queries:

# %%
plots.show(plots.entropy_figure([looked], ["kv_stride 2"]), plots.entropy_alt([looked], ["kv_stride 2"]))

# %% [markdown]
# Only locks were graded in training; at all other cells the probe may read whatever it likes. Do the locks
# choose more sharply than the rest? We pool the locks of all pictures, and all other cells:

# %%
at_locks, elsewhere = [], []
for scene, picture in zip(validation.scenes, pictures, strict=True):
    seen = record.capture(halved, picture, weights_are[2])[0]
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
# ## 8 · What down-sampling loses
#
# With `kv_stride=2` a quarter of the keys is left, and with 4 fewer still. Three probes, trained alike but for the
# stride, come with the course:

# %%
probes = {f"kv_stride {n}": probe.load(n) for n in probe.STRIDES}
strides = {
    name: record.capture(model, pictures[0], weights_are[n])[0]
    for n, (name, model) in zip(probe.STRIDES, probes.items(), strict=True)
}
print({name: f"{seen.k.shape[1]} keys" for name, seen in strides.items()})

# %% [markdown]
# The same lock of the same picture in all three. Where do the maps disagree?

# %%
place = (chosen.lock.row, chosen.lock.column)
figure = plots.same_pixel_figure(list(strides.values()), list(strides), *place)
plots.show(figure, plots.same_pixel_alt(list(strides.values()), *place))

# %% [markdown]
# In the explorer `kv_stride` switches between them at the same place, and "beside it" shows two next to each other:

# %%
strides_view = explorer.show(list(strides.values()), query=query, pairs=pairs)

# %% [markdown]
# A bright square need not lie on the key itself: a cell beside a shape sees a part of it, and a head may read its
# colour there. Two heads can be compared by their entropy. Can two strides?

# %%
exercises.quiz("04-bits")

# %% [markdown]
# Now the price. The lab shows one lock through each layer, and what was counted over many. **Predict before you move
# anything:** at which stride do the answers suffer? Look first with the shapes *where they lay in training*, then
# with shapes *on every cell, also between*. Find a lock that goes wrong.

# %%
labs.stride_lab(kv_stride=2)

# %% [markdown]
# In training all shapes lay on every second cell, just where a key with `kv_stride=2` is centred. There next to
# nothing is lost. Elsewhere something breaks, but not with every stride:

# %%
anywhere = probe.draw(PICTURES, seed=10_000, split="val", step=probe.CELL)
all_pairs = [pair for scene in anywhere.scenes for pair in scene.pairs]
key_cells = np.array([(pair.key.row, pair.key.column) for pair in all_pairs]) // probe.CELL
lock_cells = np.array([(pair.lock.row, pair.lock.column) for pair in all_pairs]) // probe.CELL

# %% [markdown]
# Which locks does each probe name right? An array of true and false for each stride:

# %%
right = {}
for name, model in probes.items():
    with torch.no_grad():
        named = model(anywhere.pictures / 255).argmax(1)
    at = torch.arange(len(all_pairs)) // len(anywhere.scenes[0].pairs), *torch.tensor(lock_cells).T
    right[name] = (named[at] == torch.tensor([pair.colour for pair in all_pairs])).numpy()
    print(f"{name}: {right[name].mean():.0%} of {len(all_pairs)} locks right")

# %% [markdown]
# ### Exercise 04-lost · investigate · 8 min · ●●●
#
# At `kv_stride 2` about half of the locks go wrong. **On what does it depend whether one does?** One of "where the
# lock lies", "where its key lies", "how far apart the two are". `right["kv_stride 2"]`, `lock_cells` and `key_cells`
# hold what you need, one row for each lock; a key is centred on every cell whose row and column are even.

# %%
answer = None  # one of the three


exercises.check("04-lost", answer)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Split the locks in two by a guess, and compare the share that is right in both halves.
# </details>
#
# <details><summary>Hint 2</summary>
#
# `(key_cells % 2 == 0).all(axis=1)` is true where the shape lies on a cell that has a key. Make the same of
# `lock_cells`, and of the distance.
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# apart = np.abs(lock_cells - key_cells).max(axis=1)
# halves = {
#     "where the lock lies": (lock_cells % 2 == 0).all(axis=1),
#     "where its key lies": (key_cells % 2 == 0).all(axis=1),
#     "how far apart the two are": apart <= np.median(apart),
# }
# ok = right["kv_stride 2"]
# answer = max(halves, key=lambda name: abs(ok[halves[name]].mean() - ok[~halves[name]].mean()))
# ```
#
# Queries stay at full resolution, so a lock may lie anywhere. It is the keys that were thinned out.
# </details>
#
# Keys on the grid against keys between:

# %%
on_grid = (key_cells % 2 == 0).all(axis=1)
for name, ok in right.items():
    print(
        f"{name}: {ok[on_grid].mean():.0%} right with the key on an even cell, {ok[~on_grid].mean():.0%} otherwise"
    )

# %%
ok = right["kv_stride 2"]
assert ok[on_grid].mean() > 0.9 and ok[~on_grid].mean() < 0.4 and right["kv_stride 1"].mean() > 0.95

# %% [markdown]
# Down-sampling kept all that the training asked for, and nothing else: a shape between two keys comes out at about
# the level of a guess. With all keys the probe gets on with places it was never shown. **That is not a law about
# strides.** With shapes everywhere in training, a stride-2 layer could learn more; that was not trained here. It says
# where to look when yours fails: at things small against the distance of the keys, and at places never trained.

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
for name, counted in zip(names, detected, strict=True):
    print(
        f"{name}: best head {counted.best:.0%} of {len(counted.found)} locks, blindly {counted.blindly:.0%}"
    )

# %% [markdown]
# A number far above the blind one is no wonder where a block was trained for it: the card says that the backbone learnt
# "densely" first, which is to name the colour at every lock, the probe's task. A number near the blind one does not say
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
# ## 10 · Show it to someone
#
# All that you moved around in fits into one file, which opens by a double click, without Python, a kernel or a network:

# %%
with tempfile.TemporaryDirectory() as folder:
    page = explorer.export_html(found, Path(folder) / "attention.html")
    print(
        f"{page.name}: {page.stat().st_size / 1024:.0f} KiB, the picture and every weight of all three layers"
    )

# %% [markdown]
# Write it to a folder of your own and send it. For your own model and photo it is one line in a terminal:
#
# ```
# python -m mqa_lib explore best.pt photo.jpg -o attention.html
# ```
#
# Ask whoever gets it to guess first.
#
# ## What you know now
#
# - A map is read together with its scale, its uniform level and what a key knows of.
# - Count over many pictures, beside the blind share, instead of picking a pretty one.
# - Whether what is read matters is a question of its own: paint it over, beside a control.
# - Down-sampled keys cost nothing at the places training used, here; between them the answers fell to a guess.
# - Not measured here: large detectors, photographs, and more than one seed.
#
# Three questions to take along:
#
# 1. A head reads the uniform level everywhere. Is it useless? How would you find out?
# 2. Which control would make the painting test of section 6 stricter?
# 3. In your own pictures, how large is the smallest thing against the distance of two keys?
#
# **Next:** [notebook 5](05_integrate_into_rtdetr.ipynb) shows how the layer gets into RT-DETR.

# %% tags=["result"]
print(
    f"the best head reads the lock's own key for {hits.best:.0%} of {len(hits.found)} locks (blindly "
    f"{hits.blindly:.1%}); with it painted over {painted.strongest:.0%} stay right, with a random key "
    f"{painted.control:.0%}; detector {detected[0].best:.0%} (blindly "
    f"{detected[0].blindly:.0%})"
)
