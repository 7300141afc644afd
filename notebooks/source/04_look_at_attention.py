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
# offers, and a place reads another with the **weight** $\mathrm{softmax}(q \cdot k / \sqrt{d_k})$. The weights of a
# query sum to 1. A **head** is one set of queries. In Mobile MQA all heads share one set of keys, and `kv_stride` says
# how much coarser the grid of keys is than the map.
#
# **What you will have:** maps that you can read with their scale and their limits; a count in place of a pretty
# picture; a test whether what is read matters; what down-sampling the keys lost, and where; and a page with the
# attention of a detector, in one file that you can send to anyone.

# %% tags=["setup"]
# (the build puts notebooks/source/_setup.py here, the same in all seven)

# %%
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from IPython.display import Markdown

from mqa_lib import cost, exercises, explorer, labs, plots, probe, record, rtdetr
from mqa_lib.datasets import keys_and_locks

# %% [markdown]
# The settings: the seed, how many pictures we count on, and where the course lies.

# %%
SEED, PICTURES = 0, 64
HOME = Path(plots.__file__).parents[2]

# %%
exercises.progress("04")

# %%
print(exercises.minutes("04"))

# %% [markdown]
# ## 1 · Something worth looking at
#
# In Keys & Locks a white outline is a lock, and its class is the colour of the filled shape of the same form, its
# *coloured key*, wherever that is. (A *key* alone is always the attention's.) The network of
# [notebook 1](01_see_it_first.ipynb), from here on the *probe*, has to name that colour at the lock, and only attention
# can bring it there. We load one that was trained as in notebook 1, with `kv_stride=2`:

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
# will it read?** Rows and columns of the 8 × 8 keys count from 0 at the top left.

# %%
chosen = validation.scenes[0].pairs[0]
query = looked.query_at(chosen.lock.row, chosen.lock.column)
guessing = explorer.show(looked, query=query, guess=True)

# %% [markdown]
# **Click where you think that it looks**, or move with the arrow keys and press Enter. Only then the maps appear.
# Where nothing can be clicked, write your guess into the next cell in place of (4, 4), as (row, column).

# %%
GUESS, clicked = (4, 4), getattr(guessing, "guess", -1)  # -1: nothing was clicked
if clicked >= 0:
    GUESS = divmod(clicked, looked.key_grid[1])

# %% [markdown]
# The right key is the one whose middle lies nearest to that of the coloured key. What does each head read of your
# key, and of the right one?

# %%
middle = np.array((chosen.key.row, chosen.key.column)) + 0.5  # of a pixel, as records count
own = int(np.abs(looked.key_centres() - middle).max(axis=1).argmin())
print(f"the right key: row {own // looked.key_grid[1]}, column {own % looked.key_grid[1]}")
for head, shares in enumerate(looked.rows(query)):
    print(f"head {head}: of your key {shares[GUESS]:6.1%}, of the right one {shares.flat[own]:6.1%}")

# %% [markdown]
# And here it is as a picture, the right key framed in orange. Maps, colour bar and bits are those of notebook 1. (The
# dark strip at the right and lower edge: a key is drawn around the middle of what it sees, and the first one has the
# first pixel there.)
#
# > **Attention is not explanation.** A weight says what is *mixed in* at this layer. It does not say that the answer
# > hangs on it: section 6 tests that. Nor does it say what the key had gathered before from other places: section 7
# > shows it. Until then, a bright cell is a hint and no reason.

# %%
plots.show(plots.explorer_figure(looked, query, target=own), plots.explorer_alt(looked, query))

# %% [markdown]
# ## 3 · The explorer
#
# Now move the query yourself. Point anywhere on the picture, and every map follows; a click locks the query, so that
# you can look at the maps, and another frees it. Arrow keys move it. Before each of these, say what you expect:
#
# 1. Go from lock to lock with the buttons. Does the same head find the right key each time?
# 2. Point at a *coloured key*, then at the bare background. What do they read, and how decided are they (the bar under
#    a head)?
# 3. Set the direction to "who reads a key" and point at a coloured key. Who reads it?
# 4. Raise the temperature, which divides the scores. That is no longer the layer, and the page says so; what happens
#    to the entropy?
# 5. Ask the kernel, at the bottom, to hide the keys that this place reads most. How probable is the right colour then,
#    and how probable if as many others are hidden?
#
# Everything but the last is computed in your browser. Where it does not run you see a picture: the star's lock.

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
# A single map may be luck, or chosen because it is pretty. So we count over all locks of many pictures. A **hit**:
# the middle of a head's strongest key lies at most `NEAR` pixels from the middle of the lock's coloured key, down and
# across. Keys are 12 pixels apart, and every shape lies on the middle of one, so just one key of the 64 is a hit. How
# often does each head hit, and how often would a key drawn blindly?

# %%
NEAR = 6
hits = explorer.at_the_key(halved, validation.scenes, pictures, NEAR)
for head, share in enumerate(hits.heads):
    print(f"head {head}: {share:.0%} of {len(hits.found)} locks; blindly {hits.blindly:.1%}")

# %% [markdown]
# Read together:

# %%
Markdown(
    f"Head {hits.best_head} hits for {hits.best:.0%} of the locks, the weakest for {hits.heads.min():.0%}, "
    f"and at least one head for {hits.any_head:.0%}. {(hits.heads > 0.5).sum()} of {len(hits.heads)} heads hit for "
    "more than half of the locks: these do much the same work. Other seeds were not run."
)

# %% [markdown]
# ## 5 · How sharply does it choose?
#
# The **entropy** of a query's weights is low when it reads few keys. With $N$ keys it is at most $\log_2 N$
# bits: then all are read alike and nothing was chosen.
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
# With $N$ equal weights every term is $\frac1N \log_2 N$, and $N$ of them make $\log_2 N$.
# </details>
#
# Now all 256 queries of the picture above. The dot is a head's median query, and the bar holds the middle four fifths
# of them:

# %%
plots.show(plots.entropy_figure([looked], ["probe"]), plots.entropy_alt([looked], ["probe"]))

# %% [markdown]
# Most queries read nearly all alike, and the bars reach down to 0. Only locks were graded in training; at all other
# cells the probe may read whatever it likes. Do the locks choose more sharply? We pool the locks of all pictures, and
# all other cells:

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
medians = [np.median(np.concatenate(bits, axis=1)) for bits in (at_locks, elsewhere)]
print(
    f"median entropy over {PICTURES} pictures: {medians[0]:.2f} bits at the locks, {medians[1]:.2f} elsewhere"
)
assert medians[0] < 0.5 and medians[1] > 5

# %% [markdown]
# ## 6 · Does it matter?
#
# A strong weight need not be a reason. Here is a test that could fail: we paint over the cells that the strongest key
# is made from. Does the network still name the right colour at the lock? First on the picture from above:

# %%
covered = explorer.evidence.paint(pictures[0], looked.footprint(looked.top(query, hits.best_head, 1)[0].key))
both = torch.stack([torch.from_numpy(picture).permute(2, 0, 1) for picture in (pictures[0], covered)])
with torch.no_grad():
    answers = halved(both / 255).flatten(2)[..., query].argmax(1)
names = [list(keys_and_locks.COLOURS)[answer] for answer in answers]
titles = [f"the {chosen.shape} lock is named {name}" for name in names]
shown = plots.scenes([pictures[0], covered], titles=titles, columns=2)
plots.show(shown, f"A picture, {titles[0]}; the same with a coloured key painted over, {titles[1]}.")

# %% [markdown]
# One picture proves nothing, whatever it shows: a guess is right for one lock in four. So on all pictures, and as a
# control with as large a part painted over around a key drawn blindly. A part that touches the lock itself is left out,
# for painting over the question proves nothing; so both counts are of a few locks less.

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
# change it (both end at the edge of the picture):

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
# With `kv_stride=2` a quarter of the keys is left, and with 4 fewer still: 25 and not 16, because the layer, like
# timm's, pads a stride of 4 by two cells. Three probes, trained alike but for the stride, come with the course:

# %%
probes = {f"kv_stride {n}": probe.load(n) for n in probe.STRIDES}
strides = {
    name: record.capture(model, pictures[0], weights_are[n])[0]
    for n, (name, model) in zip(probe.STRIDES, probes.items(), strict=True)
}
print({name: f"{seen.k.shape[1]} keys" for name, seen in strides.items()})

# %% [markdown]
# The same lock of the same picture in all three. Where do the maps disagree? (A bright square need not lie on the
# coloured key: a cell beside a shape sees a part of it, and a head may read its colour there.)

# %%
place = (chosen.lock.row, chosen.lock.column)
figure = plots.same_pixel_figure(list(strides.values()), list(strides), *place)
plots.show(figure, plots.same_pixel_alt(list(strides.values()), *place))

# %% [markdown]
# In the explorer `kv_stride` switches between them at the same place, and "beside it" shows two next to each other. At
# stride 1 the heads read a cell beside the middle of the shape. So here, and in the lab further down, every key is a
# right one whose middle lies within `probe.REACH` pixels of it:

# %%
print(f"{probe.REACH} pixels")
within = [
    explorer.Match(p.shape, (p.lock.row, p.lock.column), (p.key.row, p.key.column), probe.REACH)
    for p in pairs
]
strides_view = explorer.show(list(strides.values()), query=query, pairs=within)

# %% [markdown]
# Two heads can be compared by their entropy. Can two strides?

# %%
exercises.quiz("04-bits")

# %% [markdown]
# Now the price. In training all shapes lay on every second cell. The lab shows one lock through each layer, and what
# was counted over many. **Predict before you look:** at which stride do the answers suffer when the shapes lie *where
# they lay in training*, and at which when they lie *on every cell, also between*? The dots are the middles of the keys;
# the last bars say how much of the map is in the 3 × 3 cells of some key.

# %%
labs.stride_lab(kv_stride=2, picture=1, lock=1, places="on every cell, also between")

# %% [markdown]
# Where the shapes lay in training next to nothing is lost. Elsewhere something breaks, but not with every stride:

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
# lock lies", "where its coloured key lies", "how far apart the two are". `right["kv_stride 2"]`, `lock_cells` and
# `key_cells` (of the coloured keys) hold what you need, one row for each lock. At this stride a key is centred on every
# cell whose row and column are even.

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
# `(key_cells % 2 == 0).all(axis=1)` is true where the coloured key lies on a cell that has a key. Make the same of
# `lock_cells`, and of the distance.
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# apart = np.abs(lock_cells - key_cells).max(axis=1)
# halves = {
#     "where the lock lies": (lock_cells % 2 == 0).all(axis=1),
#     "where its coloured key lies": (key_cells % 2 == 0).all(axis=1),
#     "how far apart the two are": apart <= np.median(apart),
# }
# ok = right["kv_stride 2"]
# answer = max(halves, key=lambda name: abs(ok[halves[name]].mean() - ok[~halves[name]].mean()))
# ```
#
# Queries stay at full resolution, so a lock may lie anywhere. It is the keys that were thinned out.
# </details>
#
# Coloured keys on the grid against those between:

# %%
on_grid = (key_cells % 2 == 0).all(axis=1)
for name, ok in right.items():
    print(
        f"{name}: {ok[on_grid].mean():.0%} right with the coloured key on an even cell, {ok[~on_grid].mean():.0%} else"
    )

# %%
ok = right["kv_stride 2"]
assert ok[on_grid].mean() > 0.9 and ok[~on_grid].mean() < 0.4 and right["kv_stride 1"].mean() > 0.95
centres = np.array([cost.key_centre(at, 4) for at in range(strides["kv_stride 4"].key_grid[0])])
in_a_key = {int(row) for row in (centres[:, None] + (-1, 0, 1)).flat}
assert set(range(probe.GRID)) - in_a_key == {1, 5, 9, 13} and probe.REACH == 9

# %% [markdown]
# Down-sampling kept all that the training asked for, and nothing else: a shape between two keys comes out at about
# the level of a guess. With all keys the probe gets on with places it was never shown. **That is not a law about
# strides.** With shapes everywhere in training, a stride-2 layer could learn more; that was not trained here. It says
# where to look when yours fails: at things small against the distance of the keys, and at places never trained. (Stride
# 4 fares alike here, because the rows and columns that are in none of its keys, 1, 5, 9 and 13, are odd ones.)

# %% [markdown]
# ## 9 · A detector
#
# Now RT-DETR. The small one that comes with the course has three layers with attention over a grid: two of
# Mobile MQA in its backbone, and **AIFI**, the multi-head attention that RT-DETR has anyway, on its coarsest
# map. We look at all three. (Its *decoder*, which makes boxes of the maps, has attention, too, but that reads a few
# points and not a grid. The explorer below shows them, and notebook 5 what they are.)

# %%
detector = rtdetr.load(HOME / "data/weights/rtdetr-nano-mobile-mqa.safetensors")
scenes, photos = zip(*keys_and_locks.stream(SEED, PICTURES, "val"), strict=True)

# %% [markdown]
# The pictures are from the validation split, which the detector was not trained on. A layer is named after its row in
# the model file, which is the subject of notebook 5:

# %%
layers = record.capture(detector, photos[0], size=scenes[0].size)
for seen in layers:
    print(f"{explorer.layer_name(seen)}, {seen.key_bytes:,} bytes of keys")

# %% [markdown]
# The second layer does not down-sample. What a detector was trained on is written in the card beside its weights, and
# the record takes it from there:

# %%
Markdown(f"**What these weights are:** {layers[0].weights_are}")

# %% [markdown]
# "Densely" is much the probe's task: before the detector was trained, the first two layers' maps had to say for each
# cell what lies there. A cell is taken there as a square of 8 × 8 pixels (then 16 × 16). The square that holds a lock's
# middle was always graded, one on the lock's edge was not. So we ask at the former. (The maps draw it half a cell
# further up and left.)


# %%
def graded(lock):
    return replace(lock, row=lock.row // 8 * 8, column=lock.column // 8 * 8)


lock = graded(scenes[0].pairs[0].lock)
spot = lock.row, lock.column

# %% [markdown]
# The blue disc at the upper left is the coloured key of this lock. Which layer reads it, with which heads? Note how
# large a cell is in each: the coarser the map, the less a cell can say where. Each row has its own scale.

# %%
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
# what is read there. Now the explorer: the place stays when the layer changes, "beside it" puts AIFI next to Mobile
# MQA, and at the bottom are the points at which the decoder read the picture for a detection. Guess before you choose
# one: do the points lie within the object, or on its edge?

# %%
place_in_layer = layers[0].query_at(*spot)
found = explorer.look(detector, photos[0], "a validation picture", size=scenes[0].size)
detector_view = explorer.show(found, query=place_in_layer, pairs=scenes[0].pairs, model=detector)

# %% [markdown]
# Again we count, over all pictures. From one key of the first two layers to the next it is 16 pixels, and a shape may
# lie anywhere between, so a hit may be 16 pixels off here.

# %%
asked = [
    replace(scene, pairs=tuple(replace(pair, lock=graded(pair.lock)) for pair in scene.pairs))
    for scene in scenes
]
detected = [explorer.at_the_key(detector, asked, photos, 16, layer) for layer in range(len(layers))]
for name, counted in zip(titles, detected, strict=True):
    print(
        f"{name}: best head {counted.best:.0%} of {len(counted.found)} locks, blindly {counted.blindly:.0%}"
    )

# %% [markdown]
# A number far above the blind one is no wonder where a layer was trained for it. A number near the blind one does not
# say that a layer fails: the first may have brought the colour already, and the decoder has attention of its own. And
# if we ask the first layer at the cell whose middle lies nearest to the lock's, often a neighbour of the graded one?

# %%
beside = explorer.at_the_key(detector, scenes, photos, 16)
print(f"asked at the nearest cell: {beside.best:.0%}; at the graded cell: {detected[0].best:.0%}")
assert detected[0].best > beside.best + 0.2

# %% [markdown]
# What a layer does at a place depends on whether it was ever graded there.

# %% [markdown]
# ## 10 · Show it to someone
#
# All that you moved around in fits into one file, which opens by a double click, without Python, a kernel or a network:

# %%
page = explorer.export_html(found, "runs/attention.html", at=spot)
print(f"{page}: {page.stat().st_size / 1024:.0f} KiB, the picture and every weight of all three layers")

# %% [markdown]
# It lies beside this notebook, in the folder `runs`. Open it, and send it. For your own model and photo it is one line
# in a terminal:
#
# ```
# python -m mqa_lib explore best.pt photo.jpg -o attention.html
# ```
#
# Ask whoever gets it to guess first.
#
# ## What you know now
#
# - A map is read together with its scale, the level of "all alike" and what a key knows of.
# - Count over many pictures, beside the blind share, instead of picking a pretty one.
# - Whether what is read matters is a question of its own: paint it over, beside a control.
# - Down-sampled keys cost nothing at the places training used, here; between them the answers fell to a guess.
# - Not measured here: large detectors, photographs, and more than one seed.
#
# Three questions to take along:
#
# 1. A head reads all keys alike everywhere. Is it useless? How would you find out?
# 2. Which control would make the painting test of section 6 stricter?
# 3. In your own pictures, how large is the smallest thing against the distance of two keys?
#
# **Next:** [notebook 5](05_integrate_into_rtdetr.ipynb) shows how the layer gets into RT-DETR.

# %% tags=["result"]
print(
    f"the best head reads the lock's coloured key for {hits.best:.0%} of {len(hits.found)} locks (blindly "
    f"{hits.blindly:.1%}); with it painted over {painted.strongest:.0%} stay right, with a random key "
    f"{painted.control:.0%}; detector {detected[0].best:.0%} (blindly "
    f"{detected[0].blindly:.0%})"
)
