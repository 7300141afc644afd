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
# # 1 · What is attention for?
#
# A convolution looks at what is near. Stack a few and they look a little farther, but for many pictures the
# answer to a question *here* lies *over there*. Attention lets every place of a picture ask all other places at
# once.
#
# **What you need:** you have seen a convolution and a little PyTorch. Nothing is downloaded, and no GPU is needed.
#
# **What you will have:** a tiny network trained twice before your eyes, without attention and with **Mobile MQA** (the
# attention of MobileNetV4, a network for phones, and the subject of this course); a picture of where the trained one
# looks; and a count of how often it looks at the right place.

# %% tags=["setup"]
# (the build puts notebooks/source/_setup.py here, the same in all seven)

# %%
import json
from pathlib import Path
import numpy as np
import torch
from IPython.display import Markdown
from mqa_lib import exercises, experiments, explorer, plots, probe, record
from mqa_lib.datasets.keys_and_locks import COLOURS, draw_scene, render

# %% [markdown]
# ## Keys & Locks
#
# Here are four pictures. Filled, coloured shapes are **keys**, white outlines are **locks**. Every lock has exactly one
# key, the one of its own shape, and the colour of that key is the lock's **class**. The colours are called blue, sky
# (the light blue), vermillion (the orange) and yellow. Pick a lock in picture 0: which class has it, and what did you
# have to look at to know?

# %%
SEED, EXAMPLES = 0, 4
scenes = [
    draw_scene(SEED, i, "val", probe.SIZE, probe.PAIRS, probe.RADII, probe.STEP) for i in range(EXAMPLES)
]
names = list(COLOURS)
classes = [", ".join(f"{pair.shape}: {names[pair.colour]}" for pair in scene.pairs) for scene in scenes]
drawn = plots.scenes([render(scene) for scene in scenes], titles=[f"picture {i}" for i in range(EXAMPLES)])
told = f"{EXAMPLES} pictures of Keys & Locks. In the first, the classes of the locks are {classes[0]}."
plots.show(drawn, told)

# %% [markdown]
# The answers:

# %%
for number, line in enumerate(classes):
    print(f"picture {number}: {line}")

# %% [markdown]
# You looked at the lock, then searched the whole picture for its shape, then read a colour there. The pictures are
# made for one purpose: to make looking far *necessary*. Where key and lock lie is left to chance.
#
# The bar shows what you have solved of this notebook. It is kept in a file beside it.

# %%
exercises.progress("01")

# %%
print(exercises.minutes("01"))

# %% [markdown]
# ### Exercise 01-chance · predict · 1 min · ●○○
#
# A lock looks the same whatever its class is. There are four colours, and each is as frequent as the others. Somebody
# sees only the lock and has to name a colour. Which share of the locks will be named right, in the long run? Write a
# number from 0 to 1 in place of `None` and run the cell (Shift + Enter).

# %%
prediction = None
exercises.check("01-chance", prediction)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Whatever colour is named, how often will it happen to be the one of the key?
# </details>
#
# <details><summary>Hint 2</summary>
#
# One in four.
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# prediction = 1 / 4
# ```
#
# Why. The lock says nothing about the colour, so every guess hits one of four equally frequent colours. This share is
# called *chance*. A network that does no better has learnt nothing about colours, however small its loss.
# </details>

# %% [markdown]
# ## The network
#
# Three convolutions turn the picture of 96 × 96 pixels into a map of 16 × 16 *cells*. Each cell sees a window of
# 19 pixels, which is enough to recognise a shape and too little to see from a lock to its key. Then comes **one
# layer of attention, or none**. At last one 1 × 1 convolution names a colour for every cell, and the network is
# judged at the cells where the locks are. That is all:

# %%
for kind in ("none", "mobile-mqa"):
    parameters = sum(p.numel() for p in probe.Probe(kind).parameters())
    print(f"attention {kind:>10}: {parameters:>6,} parameters")

# %% [markdown]
# The 19 pixels are no guess. Autograd tells which pixels can change the cell in the middle: those whose gradient is not
# zero.

# %%
stem = probe.Probe("none").eval().stem
grey = torch.full((1, 3, probe.SIZE, probe.SIZE), 0.5, requires_grad=True)
stem(grey)[0, :, 8, 8].square().sum().backward()
window = int(grey.grad.abs().sum((0, 1, 2)).gt(0).sum())
print(f"a cell sees {window} pixels across, of {probe.SIZE}")
assert window == 19

# %% [markdown]
# ## Train it, and watch
#
# The next cells train the network without attention, then with Mobile MQA, on the same pictures, in the same order,
# for the same number of steps. The chart grows while they run; a minute or so is normal. **Before you run them, say
# what you expect of each line:** where does it start, where does it end?

# %%
STEPS = 150  # more do not change the story
LABELS = {"none": "no attention", "mobile-mqa": "Mobile MQA", "article": "the article's layer"}
trained, lines = {}, {}


def train_and_watch(kind, chart):
    def watch(now):
        lines.setdefault(LABELS[kind], []).append((now.step, now.accuracy))
        said = ", ".join(f"{name} {points[-1][1]:.0%}" for name, points in lines.items())
        fig = plots.curves(lines, "training steps", "locks named right", ("chance", probe.CHANCE))
        chart.show(fig, f"Share of locks named right against training steps. At the end: {said}.")

    trained[kind] = probe.train(kind, seed=SEED, steps=STEPS, watch=watch)


# %%
chart = plots.LivePicture()
train_and_watch("none", chart)
train_and_watch("mobile-mqa", chart)

# %% [markdown]
# The line without attention stays at chance. The line with Mobile MQA waits there a while, too, and then climbs to the
# top. Counted on 256 pictures that neither has seen:

# %%
final = {kind: network.history[-1] for kind, network in trained.items()}
for kind, last in final.items():
    print(f"{LABELS[kind]:>12}: {last.accuracy:6.1%} of the locks after {last.step} steps")
assert final["mobile-mqa"].accuracy >= 0.95
assert abs(final["none"].accuracy - probe.CHANCE) <= 0.05

# %%
exercises.quiz("01-window")

# %% [markdown]
# ## Look at where it looks
#
# Attention gives each cell a set of *weights*: one number for every place it can read from, all positive,
# summing to one. A large weight means "I take much from there". The network has four *heads*, which are four
# independent sets of weights. The cell that asks is called the **query**, a place that can be read is called a
# **key**. That word is older than this data set; from here on the shapes are called *coloured keys*.
#
# Take the first picture and ask at the cell of its first lock. Where should it look?

# %%
scene = scenes[0]
pair = scene.pairs[0]
cell = probe.SIZE // probe.GRID  # pixels
print(f"the {pair.shape} lock: pixel row {pair.lock.row}, column {pair.lock.column}", end="; ")
print(f"cell row {pair.lock.row // cell}, column {pair.lock.column // cell}")
print(f"its coloured key: pixel row {pair.key.row}, column {pair.key.column}; {names[pair.colour]}")

# %% [markdown]
# The network runs once, and `record.capture` keeps what its attention did. Of all places that can be read, one is
# nearest to the right coloured key; we outline it in orange:

# %%
trained_on = f"trained on Keys & Locks in this notebook, {STEPS} steps, seed {SEED}"
(seen,) = record.capture(trained["mobile-mqa"], render(scene), weights_are=trained_on)
query = seen.query_at(pair.lock.row, pair.lock.column)
distances = np.abs(seen.key_centres() - (pair.key.row, pair.key.column)).sum(1)
told = f"{plots.explorer_alt(seen, query)} The place of the right coloured key is outlined."
plots.show(plots.explorer_figure(seen, query, target=int(distances.argmin())), told)

# %% [markdown]
# **A word of caution beside the first map, and not at the end.** Attention weights show what a layer *reads*, not why
# the network *answers* as it does. Here one can be checked against the other, because we know which coloured key is the
# right one. In a photo nobody knows, and a bright spot is not an explanation.
#
# How to read the picture. The cell with the small square asks. Beside it is one map for each head, first laid over a
# dim copy of the picture, beneath it alone; a bright square is a place that is read. Above a map stands how undecided
# its head is, in *bits*: 0 when it reads a single key, 6 when it reads all 64 alike. The dotted line on the scale is
# what reading all alike would give to each. (Over the dark strip at two edges lies no key.)
#
# There are 16 × 16 queries and only 8 × 8 keys, so a key stands for 12 pixels: the grid of keys is coarser. That is the
# *down-sampling* in Mobile MQA, and what it saves is the subject of notebook 2. Nobody told the network where to look;
# it was told colours only.

# %% [markdown]
# ## What reading means
#
# A weight is a share. Attention multiplies what each place offers by its share and adds it up: the result is a mean in
# which some places count more. What a place offers here are 32 learnt numbers, the same to all heads. To see what the
# mean does, let the places offer something simpler: the colour of the picture at the middle of each key's cell, as
# red, green and blue.

# %%
every = probe.SIZE // seen.key_grid[0]
colours = torch.tensor(render(scene))[::every, ::every].flatten(0, 1).double()
weights = torch.tensor(seen.rows(query)).flatten(1).double()
print("weights, heads × places:", tuple(weights.shape), "· colours, places × 3:", tuple(colours.shape))

# %% [markdown]
# ### Exercise 01-read · implement · 3 min · ●○○
#
# Write what attention does with its weights: for every head the sum over all places of weight times colour. One line
# is enough.


# %%
def read(weights, colours):
    raise NotImplementedError  # return (heads, 3)


exercises.check("01-read", read)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# For one head it is `sum(weight * colour for weight, colour in zip(row, colours))`. A matrix product does this for all
# heads at once.
# </details>
#
# <details><summary>Hint 2</summary>
#
# The weights are (heads, places), the colours (places, 3). The places, in the middle, are summed away by `@`.
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def read(weights, colours):
#     return weights @ colours
# ```
#
# Why. A matrix product multiplies each row of weights with each column of colours and adds up. With the learnt numbers
# in the place of the colours this line is the second half of attention. The first half, where the weights come from,
# is in notebook 2.
# </details>

# %% [markdown]
# On the trained weights, what do the heads bring to the lock?

# %%
brought = weights @ colours
for head, colour in enumerate(brought):
    nearest = min(names, key=lambda name: (torch.tensor(COLOURS[name]) - colour).norm().item())
    print(f"head {head} reads red, green, blue {colour.int().tolist()}: nearest to {nearest}")
print(f"the right class is {names[pair.colour]}, red, green, blue {list(COLOURS[names[pair.colour]])}")

# %% [markdown]
# Nothing in the lock's own window has that colour. A head that reads many places at once brings a muddy mean of theirs.

# %% [markdown]
# ## Move the query yourself
#
# Point at a place of the picture, click to keep it, or use the sliders and the arrow keys. It opens on the second lock,
# and the coloured key that belongs to a lock is outlined. Two things to try: does the same head find the coloured key
# for every lock? What does a place on the empty background read?

# %%
other = scene.pairs[1].lock
view = explorer.show(seen, query=seen.query_at(other.row, other.column), pairs=scene.pairs)

# %%
exercises.quiz("01-proof")

# %% [markdown]
# ## One picture proves little
#
# So count, over 256 pictures that the network has not seen: for how many of the locks does a head put its *strongest*
# weight exactly on the place of the lock's own coloured key?

# %%
unseen = probe.draw(256, seed=10_000, split="val")
hits = trained["mobile-mqa"].key_hits(unseen)
by_head, any_head = hits.double().mean(1), hits.any(0).double().mean()
print("each head:", ", ".join(f"{share:.0%}" for share in by_head), f"· some head: {any_head:.0%}")
print(f"a head that looked anywhere at random: {1 / np.prod(seen.key_grid):.1%}")

# %% [markdown]
# ### Exercise 01-cut · investigate · 3 min · ●●○
#
# Does the network *need* what it reads? Take its attention away and count. The next cell loads a network that was
# trained in the same way and is bundled with the course, and a few pictures. Set `bundled.attn = None` (the network
# then skips the layer), count the locks that it still names right with `bundled.accuracy(few)`, and put the result in
# `answer`.

# %%
bundled, few = probe.load(), probe.draw(64, seed=10_000, split="val")
print(f"with attention: {bundled.accuracy(few):.1%} of the locks")

# %%
answer = None
exercises.check("01-cut", answer)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Two lines: one takes the layer out, the other counts.
# </details>
#
# <details><summary>Hint 2</summary>
#
# `accuracy` returns a share from 0 to 1; hand it in as it is.
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# bundled.attn = None
# answer = bundled.accuracy(few)
# ```
#
# Why. The network falls from nearly all to little more than chance: what it knows about colours came through the
# layer. This is an experiment, and it says more than any map: something was changed, and the answers changed. (The
# experiment is rough, for the network was never trained to do without. Notebook 4 hides single keys instead.)
# </details>

# %% [markdown]
# ## Was it too easy? And does every layer work?
#
# The training above was made easy. All shapes lay on a grid of 12 pixels, which is also the grid of the keys, so the
# network learnt within a minute. The table below was recorded with shapes *anywhere* and with more training. It has
# controls: convolutions with as many parameters, and multi-head attention, which Mobile MQA replaces.
#
# One row is new. Search the web for Mobile MQA and you find an article whose code many have copied. Its layer has the
# same parts and names, and every shape fits. **Guess before you run:** how accurate is the network with it?

# %%
rows = json.loads((Path(plots.__file__).parents[2] / "data/probe/ablation.json").read_text())["rows"]
OURS, ARTICLE = "Mobile MQA, kv_stride 2", "the article's layer"
MAIN = ("no attention", "convolutions", "multi-head", "multi-query", OURS, ARTICLE)
main = [row for row in rows if row["arm"] in MAIN]
seeds = len({row["seed"] for row in main})
print(f"{main[0]['steps']:,} steps of 64 pictures each; {seeds} seed{'s' * (seeds > 1)} so far")
Markdown(experiments.ablation_table(main).replace(OURS, f"**{OURS}**"))

# %% [markdown]
# `kv_stride` says how much coarser the grid of keys is than the map: 1 means not at all (this is *multi-query
# attention*), 2 is the network above. `python -m mqa_lib probe` makes the table again, or adds seeds that are still
# missing.
#
# Without attention the network stays at chance: it cannot see the key. Two more convolutions see a little farther, and
# name a few more colours. The article's layer runs, has the size of the multi-query layer, and stays far below it. In
# notebook 3 you find out what is wrong with it.

# %%
accuracy = {arm: np.median([row["accuracy"] for row in main if row["arm"] == arm]) for arm in MAIN}
assert not np.isnan(list(accuracy.values())).any()
assert accuracy["no attention"] < 0.3 < accuracy["convolutions"] < 0.5 < 0.9 < accuracy[OURS]
assert accuracy[ARTICLE] < accuracy["multi-query"] - 0.2

# %%
exercises.quiz("01-fits")

# %% [markdown]
# ## What you know now
#
# - Convolutions with a small window cannot answer a question whose answer lies outside it.
# - One layer of attention can, and it learns where to look from the answers alone.
# - Attention is a mean in which some places count more; the weights are those shares, and each head has its own.
# - What a layer reads can be drawn and, where the truth is known, counted. That it matters takes an experiment.
# - Code that runs and whose shapes fit can still be wrong.
#
# Three questions to take along: why is the list of keys four times shorter than the list of queries? What would happen
# with locks so small that a key cell holds two shapes? How much of this would you believe if there were no line
# without attention in the chart?
#
# Next: [notebook 2](02_derive_the_formula.ipynb), where the weights come from and what each part costs. Every term of
# the course is explained in the [glossary](glossary.md).

# %% tags=["result"]
print(
    f"locks named right after {STEPS} steps: Mobile MQA {final['mobile-mqa'].accuracy:.0%}, no attention "
    f"{final['none'].accuracy:.0%}; strongest key right: {by_head.max():.0%}; the article's layer, recorded: "
    f"{accuracy[ARTICLE]:.0%}"
)
