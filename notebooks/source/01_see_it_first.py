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
# In this notebook you train the same tiny network, each time in well under a minute: without attention, with
# **Mobile MQA** (the attention of MobileNetV4, the subject of this course), and at the end with a version of it
# that an article has spread. In between you look at where the trained one looks. Nothing is downloaded, and no
# GPU is needed.

# %% tags=["setup"]
# (the build puts notebooks/source/_setup.py here, the same in all seven)

# %%
import json
from pathlib import Path

import numpy as np
from IPython.display import Markdown

import mqa_lib
from mqa_lib import explorer, plots, probe, record
from mqa_lib.datasets.keys_and_locks import COLOURS, draw_scene, render

# %% [markdown]
# The seed decides the weights a network starts from and the pictures it sees. Change it and run all cells again:
# the story should stay the same, and at the end there is a table that says how much it changes.

# %%
SEED, STEPS = 0, 150
EXAMPLES = 4

# %% [markdown]
# ## Keys & Locks
#
# The pictures are made for one purpose: to make looking far *necessary*. Filled, coloured shapes are **keys**.
# White outlines are **locks**. Each lock has exactly one key, the one of its own shape, and the colour of that
# key is the lock's class. Where in the picture key and lock lie is left to chance, on a grid of 12 pixels that
# suits the network below: a network this small learns far more slowly off that grid, as the table at the end
# shows.
#
# Before you run the next cell, think: what would you have to know to name the class of a lock?

# %%
scenes = [
    draw_scene(SEED, i, "val", probe.SIZE, probe.PAIRS, probe.RADII, probe.STEP) for i in range(EXAMPLES)
]
names = list(COLOURS)
titles = [
    ", ".join(f"{pair.shape}: {names[pair.colour]}" for pair in scene.pairs[:2]) + ", …" for scene in scenes
]
plots.show(
    plots.scenes([render(scene) for scene in scenes], titles=titles),
    f"{EXAMPLES} pictures of Keys & Locks. In the first, the classes of the locks are "
    + ", ".join(f"{pair.shape}: {names[pair.colour]}" for pair in scenes[0].pairs)
    + ".",
)

# %% [markdown]
# A lock looks the same whatever its class is. There are four colours, so whoever sees only the lock can guess,
# and will be right once in four times. That share is called *chance*, and everything below is measured against
# it:

# %%
print(f"chance: {probe.CHANCE:.0%} of the locks")

# %% [markdown]
# ## The network
#
# Three convolutions turn the picture of 96 × 96 pixels into a map of 16 × 16 *cells*. Each cell sees a window of
# 19 pixels, which is enough to recognise a shape and too little to see from a lock to its key. Then comes **one
# layer of attention, or none**. At last one 1 × 1 convolution names a colour for every cell, and the network is
# judged at the cells where the locks are. That is all:

# %%
networks = {kind: probe.Probe(kind) for kind in ("none", "mobile-mqa", "article")}
for kind, network in networks.items():
    print(f"{kind:>10}: {sum(p.numel() for p in network.parameters()):>7,} parameters")

# %% [markdown]
# ## Train it, and watch
#
# The next cells train the network without attention and with Mobile MQA on the same pictures, in the same order,
# for the same number of steps. The chart grows while they run. What do you expect of each line?

# %%
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
# The line without attention stays at chance, and more steps could not help: what it would need is outside its
# window. The line with Mobile MQA leaves chance as soon as the convolutions can tell shapes apart, and then
# climbs to the top. Counted on 256 pictures that neither has seen:

# %%
final = {kind: network.history[-1] for kind, network in trained.items()}
for kind, last in final.items():
    print(
        f"{LABELS[kind]:>20}: {last.accuracy:6.1%} of the locks after {last.step} steps, {last.seconds:.0f} s"
    )
assert final["mobile-mqa"].accuracy >= 0.95
assert abs(final["none"].accuracy - probe.CHANCE) <= 0.05

# %% [markdown]
# ## Look at where it looks
#
# Attention gives each cell a set of *weights*: one number for every place it can read from, all positive,
# summing to one. A large weight means "I take much from there". The network has four *heads*, which are four
# independent sets of weights. The cell that asks is called the **query**, a place that can be read is called a
# **key** (no relation to the coloured shapes: the word is older than this data set).
#
# Take the first picture and ask at the cell of its first lock. Where should it look?

# %%
scene = scenes[0]
pair = scene.pairs[0]
print(f"The {pair.shape} lock is at row {pair.lock.row}, column {pair.lock.column};")
print(f"its key is at row {pair.key.row}, column {pair.key.column}, and is {names[pair.colour]}.")

# %%
trained_on = f"trained on Keys & Locks in this notebook, {STEPS} steps, seed {SEED}"
(seen,) = record.capture(trained["mobile-mqa"], render(scene), weights_are=trained_on)
query = seen.query_at(pair.lock.row, pair.lock.column)
plots.show(plots.explorer_figure(seen, query), plots.explorer_alt(seen, query))

# %% [markdown]
# Above each map stands how undecided its head is: 0 bits when it reads a single key, 6 bits when it reads all 64
# alike. The dotted line on the scale is what reading all alike would give to each. The lower row shows the same
# weights without the picture.
#
# At least one head lights up on the key of the same shape: nobody told it to, it was only told the colour. The
# grid of keys is coarser than the grid of queries, 8 × 8 instead of 16 × 16. That is the "down-sampled" in
# Mobile MQA, and what it saves is the subject of notebook 2.
#
# One picture proves little. So count, over 256 pictures the network has not seen: for how many of the locks does
# a head put its *strongest* weight exactly on the cell of the lock's own key?

# %%
unseen = probe.draw(256, seed=10_000, split="val")
hits = trained["mobile-mqa"].key_hits(unseen)
by_head, any_head = hits.double().mean(1), hits.any(0).double().mean()
print("each head:", ", ".join(f"{share:.0%}" for share in by_head), f"· some head: {any_head:.0%}")
print(f"a head that looked anywhere at random: {1 / np.prod(seen.key_grid):.1%}")

# %% [markdown]
# A word of caution beside the first map, and not at the end: attention weights show what a layer *reads*, not
# why the network *answers* as it does. Here we can check the one against the other, because we know which key is
# the right one. In a photo nobody knows, and a bright spot is not an explanation.
#
# Now move the query yourself: point at a place of the picture, click to keep it, or use the sliders. The key that
# belongs to a lock is outlined.

# %%
view = explorer.show(seen, query=query, pairs=scene.pairs)

# %% [markdown]
# Without a kernel nothing moves. Here is one more query as a picture, the second lock of the same
# scene:

# %%
other = scene.pairs[1].lock
second = seen.query_at(other.row, other.column)
plots.show(plots.explorer_figure(seen, second), plots.explorer_alt(seen, second))

# %% [markdown]
# ## The same place, another layer
#
# Search for Mobile MQA and you find an article whose code many have copied. It has the same parts and names, and
# every shape fits. Put it where Mobile MQA was, and train as before. Its keys are not down-sampled, so it reads
# from four times as many places, and takes longer:

# %%
train_and_watch("article", plots.LivePicture())
final["article"] = trained["article"].history[-1]
print(f"the article's layer: {final['article'].accuracy:.1%} of the locks, {final['article'].seconds:.0f} s")

# %% [markdown]
# It runs, it takes longer than Mobile MQA with its coarser keys (without down-sampling Mobile MQA would be
# slower, too: notebook 4 times it), and it gets only a little above chance. In notebook 3 you find out what is
# wrong with it, and notebook 1 would look the same in your own project: a loss that falls, and nothing that says
# "wrong".

# %% [markdown]
# ## Was that luck?
#
# One seed can be lucky. The table below was recorded once, with five seeds for each kind of attention, and lies
# in `data/probe/seeds.json` with the versions and the machine it was made on (`python -m mqa_lib probe` makes it
# again).

# %%
recorded = json.loads((Path(mqa_lib.__file__).parents[1] / "data/probe/seeds.json").read_text())
rows = ["| attention | centres on | seeds | median | lowest | highest |", "|---|---|---|---|---|---|"]
for kind, stride, step in probe.KINDS:
    case = {"attention": kind, "kv_stride": stride, "step": step}
    found = [row["accuracy"] for row in recorded["rows"] if case.items() <= row.items()]
    name = LABELS[kind] + (f", kv_stride {stride}" if kind == "mobile-mqa" else "")
    spread = " | ".join(f"{share:.1%}" for share in (np.median(found), min(found), max(found)))
    rows.append(f"| {name} | {'any pixel' if step == 1 else f'every {step} px'} | {len(found)} | {spread} |")
Markdown("\n".join(rows))

# %% [markdown]
# One row is less flattering than the rest. With centres on any pixel the same network, trained for the same
# number of steps, is much worse: 6-pixel cells then cut shapes anywhere, and three small convolutions have to
# learn each shape in many positions. The detectors of notebook 6 have larger backbones and are trained on shapes
# off the grid.

# %% [markdown]
# ## What you know now
#
# Convolutions with a small window cannot answer a question whose answer lies outside it. One layer of attention
# can, and it learns where to look from the answers alone. What a layer reads can be drawn, and here even be
# counted. And code that runs and whose shapes fit can still be wrong.
#
# Three questions to take along: why is the list of keys four times shorter than the list of queries, and why
# does that cost so little here? What would happen with locks so small that a key cell holds two shapes? How much
# of this would you believe if there were no line without attention in the chart?
#
# Next: `02_derive_the_formula`, where the layer is taken apart, step by step.

# %% tags=["result"]
print(
    f"locks named right after {STEPS} steps: Mobile MQA {final['mobile-mqa'].accuracy:.0%}, no attention "
    f"{final['none'].accuracy:.0%}, article {final['article'].accuracy:.0%}; strongest key right: {by_head.max():.0%}"
)
