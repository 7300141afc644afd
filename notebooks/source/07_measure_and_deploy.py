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
# # 7 · When does Mobile MQA pay?
#
# [Notebook 2](02_derive_the_formula.ipynb) counted multiply-accumulates (MACs), and Mobile MQA needed far fewer than
# multi-head attention. But nobody waits for MACs. On which maps does it save *time*, where does down-sampling the keys
# pay for itself, and where do you get nothing for your trouble?
#
# **What you need:** notebook 2 (MACs, bytes, ridge point) and the layer of notebook 3. Notebook 5 helps for the maps
# of RT-DETR.
#
# **What you will have:** measurements of your own machine, a table for deciding, a roofline for machines that you do
# not have, and the layer as an ONNX file. All of it is measured while you look on, so your numbers differ from anybody
# else's, and the sentences are made from yours.

# %% tags=["setup"]
# (the build puts notebooks/source/_setup.py here, the same in all seven)

# %%
import importlib.util
import json
import os
import re
from pathlib import Path
import torch
from IPython.display import Markdown
from mqa_lib import MobileMQA, bench, cost, exercises, labs, plots, timing

# %% [markdown]
# The layers have 256 channels and 4 heads of 64. PyTorch may use one processor core only: with several, all wait for
# the slowest, and that would measure what else the machine has to do. (`MQA_MODE=full`: all cores, and more rounds.)

# %%
DIM, NUM_HEADS, KEY_DIM = 256, 4, 64
SIDES, KV_STRIDES, LAYER = (4, 8, 16, 32, 40), (1, 2, 4), (NUM_HEADS, KEY_DIM, KEY_DIM)
FULL = os.environ.get("MQA_MODE") == "full"
REPEATS, MAX_SECONDS = (100, 60.0) if FULL else (20, 4.0)
torch.set_num_threads(torch.get_num_threads() if FULL else 1)

# %%
exercises.progress("07")

# %%
print(exercises.minutes("07"))

# %% [markdown]
# ## 1 · What a fair comparison is
#
# A timing without its machine means nothing. `load_1min` is how many programs wanted the processor during the last
# minute, on average:

# %%
machine = timing.machine()
machine |= machine.pop("versions")
for name, value in machine.items():
    print(f"{name:10s} {value}")

# %% [markdown]
# **Before the first number, the rules.** A comparison of two layers is fair if
#
# - both do the same job: same input, same sizes, same dtype, same threads;
# - each may use the *memory order* that suits it: channel by channel (NCHW, PyTorch's default) or pixel by pixel
#   (NHWC, `channels_last`); we measure both and count the better;
# - both are warm (called a few times before), and they **take turns**, so that a slow minute of the machine slows both;
# - the ratio is formed *within* each round, and told with its spread. A difference smaller than what a layer shows
#   against itself is no difference.
#
# And it holds for this machine, these sizes and this version of PyTorch. The third and fourth rule are yours to write:
#
# ### Exercise 07-paired · implement · 6 min · ●●○
#
# Two layers took turns: `ours[i]` and `theirs[i]` are their seconds in round `i`. Return a tensor with the quartiles
# (25 %, 50 %, 75 %) of how many times as long `theirs` takes as `ours`. In a third of the rounds the machine was slow.


# %%
def paired(ours, theirs):
    raise NotImplementedError  # return a tensor of three numbers


exercises.check("07-paired", paired)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Divide before you take quartiles, not after.
# </details>
#
# <details><summary>Hint 2</summary>
#
# `torch.quantile(values, torch.tensor([0.25, 0.5, 0.75]).to(values))`
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def paired(ours, theirs):
#     ratios = theirs / ours
#     return torch.quantile(ratios, torch.tensor([0.25, 0.5, 0.75]).to(ratios))
# ```
#
# In a slow round both times grow and their ratio stays. Quartiles of the times would set a slow round of one layer
# against a fast round of the other.
# </details>
#
# `timing.compare` and `ratio_to` do this below. How well does it work here? A layer **against itself** should give 1;
# how far it strays is what cannot be seen in the rest of this notebook:

# %%
trial = bench.Shape("trial", DIM, 16, 16, NUM_HEADS, KEY_DIM, kv_stride=2)
run = bench.candidates(trial)["ours, NCHW"]
first, again = timing.compare({"first": run, "again": run}, repeats=REPEATS, max_seconds=MAX_SECONDS)
noise = again.ratio_to(first)
blur = max(noise.high - 1, 1 - noise.low)
print(f"a layer against itself: {noise.median:.2f} (quartiles {noise.low:.2f} to {noise.high:.2f})")
print(f"so here a difference of up to {blur:.0%} is none")

# %%
exercises.quiz("07-fair")

# %% [markdown]
# ## 2 · Which map, which stride?
#
# Multi-head attention against Mobile MQA at `kv_stride` 1 (keys and values shared, not down-sampled), 2 and 4, on maps
# from 4 × 4 to 40 × 40. **Predict before you run:** on which map will the distance be largest, and is there one on
# which stride 2 takes *longer* than stride 1?

# %%
swept = {}
for side in SIDES:
    shape = bench.Shape(f"{side} × {side}", DIM, side, side, NUM_HEADS, KEY_DIM)
    runs = bench.stride_candidates(shape, KV_STRIDES)
    swept[side] = bench.faster_formats(timing.compare(runs, repeats=REPEATS, max_seconds=MAX_SECONDS))

# %%
shares = {
    side: {stride: layers[f"kv_stride {stride}"].ratio_to(layers["multi-head"]) for stride in KV_STRIDES}
    for side, layers in swept.items()
}

# %% [markdown]
# A row is a map, rows × columns × channels. Points to the left of 1 took less time than multi-head attention:

# %%
by_map = {
    f"{side} × {side} × {DIM}": {f"kv_stride {stride}": share for stride, share in row.items()}
    for side, row in shares.items()
}
plots.show(*plots.time_ratios(by_map, "multi-head attention"))

# %% [markdown]
# Beside it the share of the MACs, from the formulas of notebook 2. **Predict:** on which map do time and MACs agree
# best, on which worst?


# %%
def macs_share(side, stride):
    reduced = cost.mobile_mqa(DIM, side, side, *LAYER, kv_stride=stride)
    return reduced.macs / cost.multi_head(DIM, side, side, *LAYER).macs


# %%
for side, row in shares.items():
    for stride, share in row.items():
        time = f"time {share.median:4.0%} ({share.low:.0%} to {share.high:.0%})"
        print(f"{side:2d} × {side:2d}, kv_stride {stride}: {time:28s} MACs {macs_share(side, stride):4.0%}")

# %% [markdown]
# Where the two differ, something other than arithmetic takes the time. It may be memory, the start of every operation,
# or a depthwise convolution, whose few MACs are slow ones; this table does not tell which. And on small maps there is
# little to save, because the 1×1 projections dominate, and no stride makes those of the queries and of the output
# cheaper:

# %%
for side in SIDES:
    price = cost.mobile_mqa(DIM, side, side, *LAYER, kv_stride=2)
    print(f"{side:2d} × {side:2d}: {price.projection_macs / price.macs:.0%} of the MACs are projections")

# %% [markdown]
# ### Where does it lose on your machine?
#
# Down-sampling has a price: two depthwise convolutions and two norms, four operations more to start. So the second
# question is stride 2 against stride 1. "Yes" or "no" stands only where the middle half of the rounds lies on one side
# of 1, "undecided" otherwise:

# %%
stride_pays = {}
for side, layers in swept.items():
    stride_pays[side] = timing.verdict(layers["kv_stride 2"].ratio_to(layers["kv_stride 1"]))
    print(f"{side:2d} × {side:2d}: does stride 2 pay against stride 1? {stride_pays[side]}")

# %% [markdown]
# No "no" here? Put 2 or 3 among `SIDES`, or 2048 in `DIM`, and run again.
#
# What would one have *instead* of attention? A 3×3 convolution, or MobileNetV4's *inverted bottleneck* (a 1×1
# convolution to four times the channels, a depthwise 3×3, and a 1×1 back). They see nine pixels and not the whole map,
# so this is no contest, but it is the choice that one makes:

# %%
instead = bench.convolutions(bench.Shape("16 × 16", DIM, 16, 16, NUM_HEADS, KEY_DIM, kv_stride=2))
took = timing.compare({name: run for name, (run, _) in instead.items()}, REPEATS, max_seconds=MAX_SECONDS)
for each in took:
    macs, middle = instead[each.name][1], each.spread.median
    speed = f"{macs / middle / 1e9:5.0f} billion MACs/s"
    print(f"{each.name:20s} {cost.in_thousands(macs):>8s} MACs {middle * 1e3:6.2f} ms {speed}")

# %%
speeds = {each.name: instead[each.name][1] / each.spread.median for each in took}
fast, slow = max(speeds, key=speeds.get), min(speeds, key=speeds.get)
print(
    f"MACs are not alike: {fast} gets through {speeds[fast] / speeds[slow]:.1f} times as many a second as {slow}"
)

# %% [markdown]
# ## 3 · The table for deciding
#
# Against multi-head attention, as "yes" and "no" were told above:

# %%
Markdown(f"**Does Mobile MQA pay against multi-head attention?**\n\n{timing.verdict_table(by_map, 'map')}")

# %% [markdown]
# Both questions together:

# %%
every = [share for row in shares.values() for share in row.values()]
verdicts = [timing.verdict(share) for share in every]
close = sum(abs(share.median - 1) <= blur for share in every)
won = sum(said.startswith("yes") for said in verdicts)
first_answer = (
    f"Here Mobile MQA beat multi-head attention on **{won} of {len(verdicts)}** maps and strides. In {close} cases the"
    f" difference is no larger than the {blur:.0%} that a layer shows against itself."
)


# %%
def maps_with(word):
    return (
        ", ".join(f"{side} × {side}" for side, said in stride_pays.items() if said.startswith(word)) or "none"
    )


# %%
yes, no, unclear = (maps_with(word) for word in ("yes", "no", "undecided"))
second_answer = f"took less time on: **{yes}**; more time on: **{no}**; undecided: **{unclear}**."
Markdown(f"{first_answer} Down-sampling itself (stride 2 against 1) {second_answer}")

# %% [markdown]
# For comparison: MobileNetV4 at 256 px has stride 2 at its 16 × 16 maps and no stride at its 8 × 8 ones. What a stride
# costs in accuracy is not measured here: [notebook 4](04_look_at_attention.ipynb) shows what it does to the maps,
# [notebook 6](06_does_it_help.ipynb) trains.
#
# ## 4 · Memory
#
# Every query against every key: the number of scores grows with the fourth power of the side. One layer, one picture of
# 640 px, if its scores are written to memory, as in training without a fused kernel or whenever you *look* at them:

# %%
for stride in (4, 8, 16, 32):
    side = 640 // stride
    one, two = (
        cost.in_bytes(cost.mobile_mqa(DIM, side, side, *LAYER, kv_stride=kv).score_bytes) for kv in (1, 2)
    )
    print(f"stride {stride:2d}: {one:>8s} with kv_stride 1, {two:>8s} with 2")

# %% [markdown]
# (With 4 heads; the article's blocks in notebook 5 have fewer.) So besides the MACs of notebook 5 there is memory to
# keep attention at strides 16 and 32. What one call really holds at its peak, PyTorch's memory profiler knows. The map
# of stride 8, with timm's layer (with its fused kernel and without) and the article's:

# %%
runs = bench.everything(bench.Shape("stride 8", DIM, 80, 80, NUM_HEADS, KEY_DIM, kv_stride=2))
peaks = {
    name: timing.peak_bytes(runs[f"{name}, NCHW"]) for name in ("ours", "timm", "timm unfused", "article")
}
for name, most in peaks.items():
    print(f"{name:14s} {cost.in_bytes(most):>9s} at the peak")

# %%
scores = cost.mobile_mqa(DIM, 80, 80, *LAYER, kv_stride=2).score_bytes
never = [name for name, most in peaks.items() if most < scores]
print(f"all scores: {cost.in_bytes(scores)}; who stays below never wrote them down whole: {', '.join(never)}")

# %% [markdown]
# On CPUs ours takes the scores block by block, so it holds a block of them, which may be more than the fused kernel
# does.
#
# A second kind of memory is *traffic*: what is read and written. Here is the first honest disappointment. On RT-DETR's
# maps for pictures of 640 px and 1280 px, by the formulas, each step's input, output and weights counted once:

# %%
moved = {}
for px, dim, stride in ((640, 1024, 16), (640, 2048, 32), (1280, 1024, 16), (1280, 2048, 32)):
    side = px // stride
    priced = cost.side_by_side(dim, side, side, NUM_HEADS, KEY_DIM)
    moved[dim, side] = {name: each.bytes_moved() for name, each in priced.items()}
    told = ", ".join(f"{name} {cost.in_bytes(count)}" for name, count in moved[dim, side].items())
    print(f"{px:4d} px, {side} × {side} × {dim}: {told}")
assert all(row[cost.MULTI_QUERY] < row[cost.MOBILE] for row in moved.values())
assert moved[2048, 40][cost.MOBILE] > moved[2048, 40][cost.MULTI_HEAD]

# %% [markdown]
# Down-sampling *moves more bytes* than sharing alone in every row, since its two depthwise convolutions read the whole
# map once more each; in the last row more than multi-head attention. Whether that matters depends on the machine.
#
# ## 5 · The roofline: machines that you do not have
#
# A step cannot be faster than its arithmetic, nor than its memory traffic. The roofline takes the longer of the two for
# each step and adds up. Which one it is depends on the machine's *ridge point*: how many MACs it can do in the time in
# which it moves one byte. Below, the estimated time as a share of multi-head attention's, in int8, over all ridge
# points; the lines are phones' chips from the paper's Table 16.

# %%
PLACES = {"MobileNetV4, 16 × 16 × 160": (160, 16, 16), "RT-DETR, 40 × 40 × 1024": (1024, 40, 40)}
ridges = {name: cost.DEVICES[name].ridge(1) for name in ("Pixel 6 CPU", "Pixel 4 DSP", "Pixel 8 EdgeTPU")}
small_numbers = {
    title: cost.side_by_side(*place, NUM_HEADS, KEY_DIM, bytes_per_number=1)
    for title, place in PLACES.items()
}
plots.show(*plots.roofline(small_numbers, ridges))

# %% [markdown]
# On the left arithmetic is the bottleneck, and Mobile MQA takes its share of the MACs. The further right a machine
# stands, the more bytes count and the less down-sampling helps. On the large map the two curves cross.
#
# **Try it** in the lab, which begins with the EdgeTPU: which layers are memory-bound? Then take 20 × 20 with 2048
# channels, 16 pictures at once, or let the scores go through memory, as without a fused kernel. **Predict:** which of
# these moves makes down-sampling pay?

# %%
labs.roofline("Pixel 8 EdgeTPU", size=40, dim=1024)

# %% [markdown]
# The answer, as the time with down-sampling in per cent of the time with sharing alone:

# %%
small = {"size": 20, "dim": 2048}
moves = {"as it begins": {}, "16 pictures": {"batch": 16}, "20 × 20 × 2048": small}
moves |= {
    "20 × 20 × 2048, 16 pictures": {**small, "batch": 16},
    "scores through memory": {"scores_in_memory": True},
}
for name, move in moves.items():
    took = labs.roofline("Pixel 8 EdgeTPU", **({"size": 40, "dim": 1024} | move)).seconds()
    print(f"{name:28s} {took[cost.MOBILE] / took[cost.MULTI_QUERY]:.0%}")

# %% [markdown]
# ### Exercise 07-ridge · investigate · 8 min · ●●●
#
# From which ridge point on (a whole number of MACs per byte) does down-sampling *hurt* on the map of 40 × 40 × 1024 in
# int8: Mobile MQA takes longer than multi-query attention? `small_numbers["RT-DETR, 40 × 40 × 1024"]` has the layers
# under `cost.MULTI_QUERY` and `cost.MOBILE`; `cost.seconds(layer, ridge, 1.0)` is the roofline's time on a machine that
# moves one byte in one unit of time.

# %%
answer = None

exercises.check("07-ridge", answer)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# In the picture it lies to the right of the EdgeTPU.
# </details>
#
# <details><summary>Hint 2</summary>
#
# `next(ridge for ridge in range(1, 2000) if …)` gives the first one that fulfils a condition.
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# layers = small_numbers["RT-DETR, 40 × 40 × 1024"]
# answer = next(
#     ridge
#     for ridge in range(1, 2000)
#     if cost.seconds(layers[cost.MOBILE], ridge, 1.0) > cost.seconds(layers[cost.MULTI_QUERY], ridge, 1.0)
# )
# ```
#
# None of the paper's machines lies beyond it. And this is a model: it knows no caches and no special hardware.
# </details>

# %%
exercises.quiz("07-bound")

# %% [markdown]
# How good is the model? We measure this machine's two rates and let it predict section 2, Mobile MQA at stride 2:

# %%
peak_macs, peak_bytes = bench.rates()
print(f"{cost.in_thousands(peak_macs)} MACs/s, {cost.in_bytes(peak_bytes)}/s in float32: ", end="")
print(f"ridge point {cost.ridge_point(peak_macs, peak_bytes):.1f} MACs per byte")

# %%
for side, layers in swept.items():
    price = cost.mobile_mqa(DIM, side, side, *LAYER, kv_stride=2)
    estimate, measured = cost.seconds(price, peak_macs, peak_bytes), layers["kv_stride 2"].spread.median
    said = f"roofline {estimate * 1e3:6.2f} ms, measured {measured * 1e3:6.2f} ms"
    print(f"{side:2d} × {side:2d}: {said}, estimate / measured {estimate / measured:.2f}")

# %% [markdown]
# With the true peak rates this would be a lower bound: softmax, memory layout and the start of every operation come on
# top, most of all on the small maps. On a busy machine our rates come out too low, and the estimate too high. So ask
# the roofline which of two layers waits for what, and not how many milliseconds it takes.
#
# ## 6 · Recorded on a quiet machine
#
# `make bench` measures 17 layers of MobileNetV4 and RT-DETR, at inference and in training, against timm's layer with
# the same weights, multi-head attention and the article's layer, by the rules of section 1.
#
# ### Exercise 07-faster · predict · 3 min · ●●○
#
# RT-DETR's last map at 640 px is 20 × 20 × 2048. How many times as long does multi-head attention take there as Mobile
# MQA with `kv_stride` 2? An estimate is enough: a quarter off is near.

# %%
prediction = None

exercises.check("07-faster", prediction)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Few pixels, many channels: is most of the work in the projections or in the products?
# </details>
#
# <details><summary>Hint 2</summary>
#
# Multi-head attention has four large projections (queries, keys, values, output). Which of them does Mobile MQA keep
# at full size, and is the time of the others gone entirely?
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# prediction = 4 / 2 * 0.85
# ```
#
# Two of four projections are nearly gone, so it can be about 2 at most; the depthwise convolutions and the products
# take something back (0.85 is a guess at that). A second disappointment for those who hoped for the ratio of the keys.
# </details>

# %%
record = json.loads(bench.OUT.read_text()) if bench.OUT.exists() else {"cases": [], "geometric_means": {}}
shown, recorded = ("timm / ours", "multi-head / ours", "article / ours"), {}
for case in (case for case in record["cases"] if case["mode"] == "inference"):
    label = re.sub(r", \d+ px", "", bench.Shape(**case["shape"]).label).replace("MobileNetV4-hybrid", "MNv4")
    gains = {name: timing.Spread(**case["gains"][name]) for name in shown if name in case["gains"]}
    recorded[label] = {name.split(" /")[0]: gain for name, gain in gains.items()}

# %% [markdown]
# A point to the right of 1 took longer than our layer. (MNv4 is MobileNetV4-hybrid. The article's layer is missing
# where its scores would fill the memory.)

# %%
if recorded:
    plots.show(*plots.time_ratios(recorded, "our Mobile MQA, inference"))

# %% [markdown]
# Over all shapes, as geometric means. *Folded* is the layer with its norms folded into the projections (`fold`).
# *multi-head* has heads of the same size as ours, `nn.MultiheadAttention` is PyTorch's module, whose heads share the
# map's channels. The *floor* is nothing but the bare matrix products of these sizes. No layer can be faster without
# multiplying less; what lies a little below 1 is noise:

# %%
lines = [
    f"| {mode} | {name} | {mean['mean']:.2f} | {mean['lowest']:.2f} | {mean['highest']:.2f} |"
    for mode, means in record["geometric_means"].items()
    for name, mean in means.items()
]
Markdown("\n".join(["| mode | times as long | mean | lowest | highest |", "|---|---|---|---|---|", *lines]))

# %% [markdown]
# Where timm's layer is close to the floor already, nobody has much to win: the third disappointment. And here the
# middle half of the rounds does not agree that ours is faster:

# %%
for case in record["cases"]:
    for name in ("timm / ours", "article / ours"):
        if name in case["gains"] and case["gains"][name]["low"] <= 1:
            print(
                f"{name} {case['gains'][name]['median']:.2f}: {bench.Shape(**case['shape']).label}, {case['mode']}"
            )

# %% [markdown]
# ## 7 · Out of Python
#
# To deploy a layer one exports it. `torch.export` records its operations as a graph that needs no Python of ours.
# Height and width stay free, so one graph serves every picture size (from 3 pixels up: below, there is one row of keys,
# and the exporter treats an extent of 1 as a case of its own):

# %%
layer = MobileMQA(DIM, num_heads=NUM_HEADS, key_dim=KEY_DIM, value_dim=KEY_DIM, kv_stride=2).eval()
free = {2: torch.export.Dim("height", min=3, max=256), 3: torch.export.Dim("width", min=3, max=256)}
example = (torch.randn(1, DIM, 16, 16),)
exported = torch.export.export(layer, example, dynamic_shapes={"x": free})

# %% [markdown]
# The graph must give what the layer gives, also for a map of another size, with an odd and an even side:

# %%
other = torch.randn(1, DIM, 13, 22)
with torch.no_grad():
    apart = (exported.module()(other) - layer(other)).abs().max().item()
assert apart < 1e-5
print(f"{len(exported.graph.nodes)} nodes; largest difference between graph and layer: {apart:.0e}")

# %% [markdown]
# ONNX is what other runtimes read. `layer.onnx` and its weights, `layer.onnx.data`, are written into the folder `runs`
# beside this notebook. Another program, onnxruntime, has to give our numbers for sizes that the file was not made with.
# (Hosted notebooks have neither package; there this step is left out.)

# %%
HAS_ONNX = all(importlib.util.find_spec(name) for name in ("onnx", "onnxscript", "onnxruntime"))
if HAS_ONNX:
    import onnxruntime

    file = Path("runs/layer.onnx")
    file.parent.mkdir(exist_ok=True)
    torch.onnx.export(layer, example, file, dynamo=True, dynamic_shapes={"x": free}, verbose=False)
    session = onnxruntime.InferenceSession(file)
    print(f"{file}: {cost.in_bytes(sum(each.stat().st_size for each in file.parent.glob('layer.onnx*')))}")

# %%
for size in ((16, 16), (13, 22), (40, 7)) if HAS_ONNX else ():
    there = torch.randn(1, DIM, *size)
    answer_there = torch.from_numpy(session.run(None, {session.get_inputs()[0].name: there.numpy()})[0])
    apart = (answer_there - layer(there)).abs().max().item()
    assert apart < 1e-4
    print(f"{size[0]} × {size[1]}: onnxruntime differs by {apart:.0e}")

# %% [markdown]
# A whole detector is exported by `.export(format="onnx")` (notebook 5's page on integration).
#
# ## What you know now
#
# - It pays where products dominate: many pixels. On few pixels with many channels the projections stay.
# - MACs tell the direction, seconds tell the truth, and both belong to a map size and a machine.
# - Sharing saves MACs and bytes. Down-sampling saves MACs and scores, and *costs* bytes: good on CPUs, of little use
#   where the ridge point is high.
# - A comparison is a ratio within rounds, with its spread, on a machine that is named.
#
# Three questions to take along:
#
# 1. Your phone's chip has a ridge point of 350. Where in RT-DETR would you put a stride, and where none?
# 2. A layer takes 3 % less time and costs half a point of accuracy. What else must you know to decide?
# 3. Which of this notebook's sentences would change with 16 pictures at once? (`bench.Shape(…, batch=16)`)
#
# Not measured here: GPUs, phones, int8, and whole detectors (their record is in
# [notebook 5](05_integrate_into_rtdetr.ipynb)). **And on:** your own model and data. Section 7 of notebook 5 makes the
# model file, [notebook 6](06_does_it_help.ipynb) shows how to train it and its twin.

# %% tags=["result"]
print(
    f"Mobile MQA beat multi-head attention on {won} of {len(verdicts)} maps and strides; "
    f"stride 2 beat stride 1 on: {yes}, lost on: {no}"
)
