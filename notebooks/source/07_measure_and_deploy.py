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
# multi-head attention. But nobody waits for MACs. This notebook measures seconds on the machine it runs on, sets them
# beside the counts, and asks two things: on which maps does Mobile MQA beat multi-head attention, and on which of them
# does down-sampling the keys pay for itself? The answer stands at the end.
#
# Everything is measured while you look on. So your numbers differ from anybody else's, and the sentences below are
# made from yours.

# %% tags=["setup"]
# (the build puts notebooks/source/_setup.py here, the same in all seven)

# %%
import importlib.util
import json
import os
import re
import tempfile

import torch
from IPython.display import Markdown

from mqa_lib import MobileMQA, bench, cost, plots, timing

# %% [markdown]
# The layers below have 4 heads of 64 channels. Maps of 8 to 40 pixels a side are what a detector has at strides 16 and
# 32. Each comparison gets a few seconds, so on a busy machine there are fewer rounds. PyTorch may use one processor
# core only: with several, all wait for the slowest, and that would measure what else the machine has to do. With
# `MQA_MODE=full` there are all cores, and a minute for each comparison.

# %%
DIM, NUM_HEADS, KEY_DIM = 256, 4, 64
SIDES, KV_STRIDES = (8, 16, 32, 40), (1, 2, 4)
FULL = os.environ.get("MQA_MODE") == "full"
REPEATS, MAX_SECONDS = (100, 60.0) if FULL else (20, 4.0)
torch.set_num_threads(torch.get_num_threads() if FULL else 1)
LAYER = (NUM_HEADS, KEY_DIM, KEY_DIM)

# %% [markdown]
# ## 1 · The machine, and how much its clock can be trusted
#
# A timing without its machine means nothing. This is the one that measures now; `load_1min` is how many programs
# wanted the processor during the last minute, on average.

# %%
machine = timing.machine()
for name, value in machine.items():
    print(f"{name:10s} {value}")

# %% [markdown]
# What that load means for the numbers below:

# %%
load, cores = machine["load_1min"], machine["cores"]
crowded = (
    "more programs than cores wanted to run, so others were working, too, and milliseconds may be too long"
)
roomy = "no more programs than cores wanted to run"
unknown = "this system does not say how busy it was"
Markdown(f"Load {load} on {cores} cores: {unknown if load is None else crowded if load > cores else roomy}.")

# %% [markdown]
# To compare two layers fairly we warm both up, then let them take turns, and form the ratio *within* each round: when
# the machine slows down for a while, it slows down both. We report the median of the ratios and the quartiles, between
# which half of the rounds lie.
#
# How well does that work here? We compare a layer **with itself**. The ratio should be 1, and how far it strays is
# what we cannot see below.

# %%
trial = bench.Shape("trial", DIM, 16, 16, NUM_HEADS, KEY_DIM, kv_stride=2)
run = bench.candidates(trial)["ours, NCHW"]
first, again = timing.compare({"first": run, "again": run}, repeats=REPEATS, max_seconds=MAX_SECONDS)
noise = again.ratio_to(first)
print(f"a layer against itself: {noise.median:.2f} (quartiles {noise.low:.2f} to {noise.high:.2f})")

# %% [markdown]
# ## 2 · Ours, timm's and multi-head attention
#
# timm's layer with the very same weights, and multi-head attention of the same sizes. PyTorch knows two ways to lay
# a map out in memory: channel by channel (NCHW, the default) and pixel by pixel (NHWC, `channels_last`). We measure
# each layer in both and give each the one in which it is faster.
#
# **Predict before you run:** at which map side will the distance to multi-head attention be largest?

# %%
timings, ratios = {}, {}
for side in SIDES:
    shape = bench.Shape(f"{side} × {side}", DIM, side, side, NUM_HEADS, KEY_DIM, kv_stride=2)
    timings[side] = timing.compare(bench.candidates(shape), repeats=REPEATS, max_seconds=MAX_SECONDS)
    ratios[shape.name] = {name: bench.speedup(timings[side], theirs=name) for name in ("timm", "multi-head")}

# %% [markdown]
# A point to the right of 1 took longer than our layer:

# %%
plots.show(*plots.time_ratios(ratios, "our Mobile MQA, kv_stride 2"))

# %% [markdown]
# The milliseconds behind the points, each in the faster memory format:

# %%
for side, measured in timings.items():
    best = bench.faster_formats(measured)
    took = ", ".join(f"{name} {each.spread.median * 1e3:.2f} ms" for name, each in best.items())
    print(f"{side:2d} × {side:2d}: {took} ({len(measured[0].seconds)} rounds)")

# %% [markdown]
# A ratio for all maps together is their geometric mean, in which twice as fast and half as fast cancel out:

# %%
names = ("timm", "multi-head")
over_timm, over_multi_head = (
    timing.geometric_mean([r[name].median for r in ratios.values()]) for name in names
)
farthest = max(ratios, key=lambda side: ratios[side]["multi-head"].median)

# %% [markdown]
# What we have seen, in words made from the numbers:

# %%
Markdown(
    f"Over these {len(SIDES)} maps timm's layer takes **{over_timm:.2f}×** as long as ours and multi-head attention "
    f"**{over_multi_head:.2f}×**; multi-head attention's distance is largest at {farthest}. A layer against itself "
    f"gave {noise.low:.2f} to {noise.high:.2f}: what lies within that is no difference."
)

# %% [markdown]
# ### Batches, and no attention at all
#
# One picture at a time is what a detector on a phone sees. A server takes many. Does the answer change with 16? We
# measure the smallest map again:

# %%
batched = bench.Shape("8 × 8, batch 16", DIM, 8, 8, NUM_HEADS, KEY_DIM, kv_stride=2, batch=16)
crowd = timing.compare(bench.candidates(batched), repeats=REPEATS, max_seconds=MAX_SECONDS)
for name in ("timm", "multi-head"):
    single, many = ratios["8 × 8"][name].median, bench.speedup(crowd, theirs=name).median
    print(f"{name:10s} takes {single:.2f}× as long as ours with one picture, {many:.2f}× with 16")

# %% [markdown]
# And what would one have *instead* of attention? A 3×3 convolution, or MobileNetV4's inverted bottleneck, of the same
# channels. They see nine pixels and not the whole map, so this is no contest, but it is the choice that one makes. The
# last column is the speed of the arithmetic: the paper calls attention slower than convolution *for the same MACs*.

# %%
convolved = bench.Shape("16 × 16", DIM, 16, 16, NUM_HEADS, KEY_DIM, kv_stride=2)
instead = bench.convolutions(convolved)
took = timing.compare({name: run for name, (run, _) in instead.items()}, REPEATS, max_seconds=MAX_SECONDS)
for each in took:
    macs, milliseconds = instead[each.name][1], each.spread.median * 1e3
    rate = macs / each.spread.median / 1e9
    print(
        f"{each.name:20s} {cost.in_thousands(macs):>8s} MACs {milliseconds:6.2f} ms {rate:5.0f} billion MACs/s"
    )

# %% [markdown]
# ## 3 · Which stride?
#
# Now multi-head attention against Mobile MQA at `kv_stride` 1 (only shared keys and values), 2 and 4, each again in
# the format that suits it:

# %%
swept = {}
for side in SIDES:
    shape = bench.Shape(f"{side} × {side}", DIM, side, side, NUM_HEADS, KEY_DIM)
    runs = bench.stride_candidates(shape, KV_STRIDES)
    swept[side] = bench.faster_formats(timing.compare(runs, repeats=REPEATS, max_seconds=MAX_SECONDS))

# %% [markdown]
# The share of multi-head attention's time that is left, round by round:

# %%
shares = {
    side: {stride: layers[f"kv_stride {stride}"].ratio_to(layers["multi-head"]) for stride in KV_STRIDES}
    for side, layers in swept.items()
}

# %% [markdown]
# Beside it we want the share of the MACs, from the closed formulas of notebook 2:


# %%
def macs_share(side: int, stride: int) -> float:
    reduced = cost.mobile_mqa(DIM, side, side, *LAYER, kv_stride=stride)
    return reduced.macs / cost.multi_head(DIM, side, side, *LAYER).macs


# %% [markdown]
# **Predict before you run:** on which map will time and MACs agree best, on which worst?

# %%
for side, row in shares.items():
    for stride, share in row.items():
        time = f"time {share.median:4.0%} ({share.low:.0%} to {share.high:.0%})"
        print(f"{side:2d} × {side:2d}, kv_stride {stride}: {time:28s} MACs {macs_share(side, stride):4.0%}")

# %% [markdown]
# Where the two shares differ, something other than arithmetic takes the time: memory, starting up the operations, or
# a depthwise convolution, whose few MACs are slow ones. On small maps the 1 × 1 projections dominate, and no stride
# makes the query and output projections cheaper:

# %%
for side in SIDES:
    price = cost.mobile_mqa(DIM, side, side, NUM_HEADS, KEY_DIM, KEY_DIM, kv_stride=2)
    print(
        f"{side:2d} × {side:2d}: {price.projection_macs / price.macs:.0%} of Mobile MQA's MACs are projections"
    )

# %% [markdown]
# ## 4 · The table for deciding
#
# From the measurements above, with the noise kept in mind: "yes" or "no" stands only where the middle half of the
# rounds lies on one side of 1, "undecided" otherwise.

# %%
by_map = {
    f"{side} × {side} × {DIM}": {f"kv_stride {stride}": share for stride, share in row.items()}
    for side, row in shares.items()
}
Markdown("**Does Mobile MQA pay against multi-head attention?**\n\n" + timing.verdict_table(by_map, "map"))

# %% [markdown]
# Does a stride pay against no stride? That is another question, because the down-sampling has a price of its own: two
# depthwise convolutions and two norms, four operations more to start. Here is Mobile MQA at stride 2, with Mobile MQA
# at stride 1 for comparison:

# %%
stride_pays = {}
for side, layers in swept.items():
    stride_pays[f"{side} × {side}"] = timing.verdict(layers["kv_stride 2"].ratio_to(layers["kv_stride 1"]))
    print(f"{side:2d} × {side:2d}: {stride_pays[f'{side} × {side}']}")

# %% [markdown]
# Both questions together. For the first we count the verdicts:

# %%
verdicts = [timing.verdict(share) for row in shares.values() for share in row.values()]
won = sum(said.startswith("yes") for said in verdicts)

# %% [markdown]
# For the second we sort the maps by verdict:


# %%
def maps_with(word: str) -> str:
    return ", ".join(name for name, said in stride_pays.items() if said.startswith(word)) or "none"


# %% [markdown]
# The answer for this machine:

# %%
first_answer = f"Here Mobile MQA beat multi-head attention on **{won} of {len(verdicts)}** maps and strides."
yes, no, unclear = (maps_with(word) for word in ("yes", "no", "undecided"))
second_answer = f"took less time on: **{yes}**; more time on: **{no}**; undecided: **{unclear}**."
Markdown(f"{first_answer} Down-sampling itself (stride 2 against 1) {second_answer}")

# %% [markdown]
# For comparison: MobileNetV4 at 256 px has stride 2 at its 16 × 16 maps and no stride at its 8 × 8 ones. What a stride
# costs in accuracy is not measured here; [notebook 4](04_look_at_attention.ipynb) shows what it does to the maps, and
# [notebook 6](06_train_and_compare.ipynb) trains.

# %% [markdown]
# ## 5 · The cost against the size of the picture
#
# RT-DETR with a ResNet-50 has maps of 1024 channels at stride 16 and of 2048 at stride 32. These curves are formulas,
# not measurements, for one layer in float32. The bytes moved count every step's input, output and weights once; the
# score matrices come on top when no fused kernel keeps them in the cache.

# %%
PICTURES_PX = range(160, 1281, 32)
STAGES = {"stride 16, 1024 channels": (16, 1024), "stride 32, 2048 channels": (32, 2048)}

# %% [markdown]
# For every picture size the three layers side by side, on the map that the stage makes of the picture:

# %%
curves = {}
for title, (stride, dim) in STAGES.items():
    sides = [px // stride for px in PICTURES_PX]
    priced = [cost.side_by_side(dim, side, side, NUM_HEADS, KEY_DIM) for side in sides]
    curves[title] = {name: [each[name] for each in priced] for name in priced[0]}

# %% [markdown]
# **Predict before you run:** which curve stays lowest in the bytes moved?

# %%
plots.show(*plots.cost_curves(PICTURES_PX, curves))

# %% [markdown]
# The second row is sobering: spatial reduction *moves more bytes* than sharing alone, since its two depthwise
# convolutions each read the whole map once more. On large maps that undoes what sharing saved, too. In numbers, for a
# picture of 640 px and one of 1280 px:

# %%
moved = {}
for dim, side in ((1024, 40), (2048, 20), (1024, 80), (2048, 40)):
    priced = cost.side_by_side(dim, side, side, NUM_HEADS, KEY_DIM)
    moved[dim, side] = {name: each.weight_bytes + each.activation_bytes for name, each in priced.items()}
    told = ", ".join(f"{name} {cost.in_bytes(count)}" for name, count in moved[dim, side].items())
    print(f"{side} × {side} × {dim}: {told}")

# %% [markdown]
# Mobile MQA moves more than sharing alone in every row. At 1280 px (the last two rows) it moves as much as multi-head
# attention with 1024 channels, and *more than multi-head attention* with 2048. Where memory is what limits a machine,
# nothing is saved there:

# %%
assert all(row[cost.MULTI_QUERY] < row[cost.MOBILE] for row in moved.values())
assert moved[2048, 40][cost.MOBILE] > moved[2048, 40][cost.MULTI_HEAD]
assert abs(moved[1024, 80][cost.MOBILE] / moved[1024, 80][cost.MULTI_HEAD] - 1) < 0.01

# %% [markdown]
# ## 6 · The memory of the score matrices
#
# Every query against every key: the number of scores grows with the fourth power of the side. If they are written to
# memory, as in training without a fused kernel or whenever one wants to *look* at them, this is what one layer needs
# for one picture of 640 px, at the strides that a backbone has:

# %%
for stride in (4, 8, 16, 32):
    side = 640 // stride
    both = [cost.mobile_mqa(DIM, side, side, *LAYER, kv_stride=kv).score_bytes for kv in (1, 2)]
    print(
        f"stride {stride:2d}: {cost.in_bytes(both[0]):>8s} with kv_stride 1, {cost.in_bytes(both[1]):>8s} with 2"
    )

# %% [markdown]
# This is why attention stands at strides 16 and 32 and nowhere earlier. What one call really holds at its peak we can
# ask PyTorch's memory profiler. One layer, one picture of 640 px, the map of stride 8; timm's layer once with its fused
# kernel and once without:

# %%
held = bench.Shape("stride 8", DIM, 80, 80, NUM_HEADS, KEY_DIM, kv_stride=2)
runs = bench.everything(held)
peaks = {
    name: timing.peak_bytes(runs[f"{name}, NCHW"]) for name in ("ours", "timm", "timm unfused", "article")
}
for name, most in peaks.items():
    print(f"{name:14s} {cost.in_bytes(most):>9s} at the peak")

# %% [markdown]
# The score matrices of all heads would be this large. Who stays below never wrote them down whole:

# %%
scores = cost.mobile_mqa(DIM, 80, 80, *LAYER, kv_stride=2).score_bytes
never = [name for name, most in peaks.items() if most < scores]
Markdown(f"Scores: {cost.in_bytes(scores)}. Below it: **{', '.join(never) or 'nobody'}**.")

# %% [markdown]
# Ours works on a block of queries at a time and holds about 8 MiB of scores, however large the map; timm's fused kernel
# holds even fewer. On the small maps of strides 16 and 32 the difference between the four is small.

# %% [markdown]
# ## 7 · The roofline: what to expect from a machine you do not have
#
# A step cannot be faster than its arithmetic, nor than its memory traffic. The roofline takes the longer of the two for
# each step and adds up. Which one it is depends on a single number of the machine, its *ridge point*: how many MACs it
# can do in the time it takes to move one byte. The paper's Table 16 gives some for 8-bit numbers:

# %%
RIDGE_POINTS = {"Pixel 6 CPU": 31.2, "S23 CPU": 39.7, "Pixel 4 DSP": 347.3, "Pixel 8 EdgeTPU": 433.8}
PLACES = {"MobileNetV4, 16 × 16 × 160": (160, 16, 16), "RT-DETR, 40 × 40 × 1024": (1024, 40, 40)}

# %% [markdown]
# So we count bytes with one byte per number:

# %%
small_numbers = {
    title: cost.side_by_side(*place, NUM_HEADS, KEY_DIM, bytes_per_number=1)
    for title, place in PLACES.items()
}
plots.show(*plots.roofline(small_numbers, RIDGE_POINTS))

# %% [markdown]
# The scores stay in the cache here, as with a fused kernel. On the left end, where arithmetic is the bottleneck, Mobile
# MQA takes its share of the MACs. The further right a machine stands, the more bytes count, and the less spatial
# reduction helps.


# %%
def time_share(layers: dict[str, cost.Cost], name: str, ridge: float) -> float:
    return cost.seconds(layers[name], ridge, 1.0) / cost.seconds(layers[cost.MULTI_HEAD], ridge, 1.0)


# %% [markdown]
# The share of multi-head attention's time that is left at the four machines:

# %%
for title, priced in small_numbers.items():
    for machine_name, ridge in RIDGE_POINTS.items():
        only_shared, reduced = (time_share(priced, name, ridge) for name in (cost.MULTI_QUERY, cost.MOBILE))
        print(f"{title:27s} {machine_name:17s} shared {only_shared:.1%}, also down-sampled {reduced:.1%}")

# %% [markdown]
# On the phones' CPUs down-sampling is worth a lot. On DSP and EdgeTPU it brings next to nothing for the small map of
# MobileNetV4. For RT-DETR's it still helps a little there, but the curves cross further right. What down-sampling
# gains on top of sharing:


# %%
def gain(layers: dict[str, cost.Cost], ridge: float) -> float:
    return time_share(layers, cost.MULTI_QUERY, ridge) - time_share(layers, cost.MOBILE, ridge)


# %% [markdown]
# How little is it on the small map, and where does it turn into a loss on the large one?

# %%
small_map, large_map = small_numbers.values()
gains = [gain(small_map, RIDGE_POINTS[name]) for name in ("Pixel 4 DSP", "Pixel 8 EdgeTPU")]
crossing = next(ridge for ridge in range(1, 1001) if gain(large_map, ridge) < 0)
assert max(map(abs, gains)) < 0.01 and gain(large_map, 1000) < 0

# %% [markdown]
# In words:

# %%
Markdown(
    f"On DSP and EdgeTPU down-sampling the small map saves {max(gains):.1%} of multi-head attention's time. On the "
    f"large map the curves cross at {crossing} MACs per byte: from there on, down-sampling *hurts*."
)

# %% [markdown]
# This is a model: it knows no caches, no start-up times and no special hardware. How good is it? We measure this
# machine's two rates and let it predict section 3:

# %%
peak_macs, peak_bytes = bench.rates()
print(f"{cost.in_thousands(peak_macs)} MACs/s, {cost.in_bytes(peak_bytes)}/s")
print(f"ridge point in float32: {cost.ridge_point(peak_macs, peak_bytes):.1f} MACs per byte")

# %% [markdown]
# Estimate and measurement for Mobile MQA at stride 2:

# %%
hits = {}
for side, layers in swept.items():
    price = cost.mobile_mqa(DIM, side, side, *LAYER, kv_stride=2)
    estimate, measured = cost.seconds(price, peak_macs, peak_bytes), layers["kv_stride 2"].spread.median
    hits[side] = estimate / measured
    said = f"roofline {estimate * 1e3:6.2f} ms, measured {measured * 1e3:6.2f} ms"
    print(f"{side:2d} × {side:2d}: {said}, estimate / measured {hits[side]:.2f}")

# %% [markdown]
# That is how good it is, and no better:

# %%
low, high, nearest = min(hits.values()), max(hits.values()), min(hits, key=lambda side: abs(1 - hits[side]))
Markdown(
    f"The estimate is {low:.2f} to {high:.2f} of what was measured, nearest to 1 on {nearest} × {nearest}."
)

# %% [markdown]
# With the machine's true peak rates the roofline would be a lower bound: the softmax, the layout of memory and the
# start of every operation come on top. Our rates are what one matrix product and one copy reached a moment ago. On a
# busy machine they can come out too low, and the estimate too high.

# %% [markdown]
# ## 8 · Out of Python
#
# To deploy a layer one exports it. `torch.export` records the operations as a graph that needs no Python code of ours;
# it is also the first step on the way to ONNX and to other runtimes. The map's height and width stay free, so that
# one graph serves every picture size. (From 3 pixels up: with fewer there is one row of keys, and the exporter
# treats an extent of 1 as a case of its own.)

# %%
layer = MobileMQA(DIM, num_heads=NUM_HEADS, key_dim=KEY_DIM, value_dim=KEY_DIM, kv_stride=2).eval()
free = {2: torch.export.Dim("height", min=3, max=256), 3: torch.export.Dim("width", min=3, max=256)}
exported = torch.export.export(layer, (torch.randn(1, DIM, 16, 16),), dynamic_shapes={"x": free})
print(f"{len(exported.graph.nodes)} nodes")

# %% [markdown]
# The graph must give what the layer gives, also for a map of another size, with an odd and an even side:

# %%
other = torch.randn(1, DIM, 13, 22)
with torch.no_grad():
    exported_difference = (exported.module()(other) - layer(other)).abs().max().item()
assert exported_difference < 1e-5
print(f"largest difference between the exported graph and the layer: {exported_difference:.0e}")

# %% [markdown]
# ONNX is what other runtimes read. The file is made from the same graph, and another program, onnxruntime, has to give
# our numbers for sizes that it was not made with. (Hosted notebooks have neither package; there this step is left out.)

# %%
HAS_ONNX = all(importlib.util.find_spec(name) for name in ("onnx", "onnxscript", "onnxruntime"))
differences = {}
if HAS_ONNX:
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        file = f"{folder}/layer.onnx"
        example = (torch.randn(1, DIM, 16, 16),)
        torch.onnx.export(layer, example, file, dynamo=True, dynamic_shapes={"x": free}, verbose=False)
        session = onnxruntime.InferenceSession(file)

# %%
for size in ((16, 16), (13, 22), (40, 7)) if HAS_ONNX else ():
    there = torch.randn(1, DIM, *size)
    answer = torch.from_numpy(session.run(None, {session.get_inputs()[0].name: there.numpy()})[0])
    differences[size] = (answer - layer(there)).abs().max().item()
    print(f"{size[0]} × {size[1]}: onnxruntime differs by {differences[size]:.0e}")
assert all(difference < 1e-4 for difference in differences.values())

# %% [markdown]
# ## 9 · Recorded on a quiet machine
#
# `make bench` measures 17 layers of MobileNetV4 and RT-DETR in NCHW and NHWC, at inference and in training, against
# everything that stands beside them, and writes the record with machine and versions to `data/benchmarks`. All layers
# have the same weights, input and gradient and take turns; each counts in its faster format, timm's also with the
# faster of its two kernels. A point to the right of 1 took longer than ours:

# %%
record = json.loads(bench.OUT.read_text()) if bench.OUT.exists() else {"cases": [], "geometric_means": {}}
shown = ("timm / ours", "multi-head / ours", "article / ours")
recorded = {mode: {} for mode in record["geometric_means"]}
for case in record["cases"]:
    spreads = {
        name.split(" /")[0]: timing.Spread(**case["gains"][name]) for name in shown if name in case["gains"]
    }
    label = re.sub(r", \d+ px", "", bench.Shape(**case["shape"]).label)
    recorded[case["mode"]][label.replace("MobileNetV4-hybrid", "MNv4")] = spreads

# %%
for mode, rows in recorded.items():
    plots.show(*plots.time_ratios(rows, f"our Mobile MQA, {mode}"))

# %% [markdown]
# Over all shapes, as geometric means, with the lowest and the highest of them. *Folded* is the layer or block after
# `fold`; the *floor* is nothing but the bare matrix products of the layer's sizes, by the faster of PyTorch's two
# routines. No layer can be faster than its floor without multiplying less:

# %%
lines = [
    f"| {mode} | {name} | {mean['mean']:.2f} | {mean['lowest']:.2f} | {mean['highest']:.2f} |"
    for mode, means in record["geometric_means"].items()
    for name, mean in means.items()
]
Markdown("\n".join(["| mode | times as long | mean | lowest | highest |", "|---|---|---|---|---|", *lines]))

# %% [markdown]
# Read the rows of the floor together: where timm's layer is close to it already, nobody has much to win. That is so on
# RT-DETR's 20 × 20 maps of 2048 channels, whose time is nearly all query and output projection. What folding takes
# away is small for the same reason. Two ideas sound alike and are not: to make queries, keys and values with one merged
# convolution saves a little, and a folded layer does it; both depthwise convolutions in one take longer, so they stay
# apart. From the record, the time of the merged form as a share of the parts:

# %%
merged = {"projections": [], "depthwise convolutions": []}
for case in record["cases"]:
    seconds = {each["name"]: sorted(each["seconds"])[len(each["seconds"]) // 2] for each in case["timings"]}
    if "parts apart" in seconds:
        kind = "projections" if case["shape"]["kv_stride"] == 1 else "depthwise convolutions"
        merged[kind].append(seconds["parts merged"] / seconds["parts apart"])
for kind, times in merged.items():
    if times:
        print(f"merged {kind}: {min(times):.2f} to {max(times):.2f} times as long")

# %% [markdown]
# Where does ours lose to timm's? Only those cases count in which the middle half of the rounds agrees:

# %%
lost = []
for case in record["cases"]:
    over, place = case["gains"]["timm / ours"], bench.Shape(**case["shape"]).label
    if over["high"] < 1:
        lost.append(f"{place}, {case['mode']}: timm's takes {over['median']:.2f}×")
print(f"slower than timm's in {len(lost)} of {len(record['cases'])} recorded cases", *lost, sep="\n    ")

# %% [markdown]
# ## What you know now
#
# When does Mobile MQA pay?

# %%
Markdown(
    f"{first_answer} Down-sampling itself (stride 2 against 1) {second_answer} "
    "Against no attention at all it always costs: notebook 2 has the paper's milliseconds."
)

# %% [markdown]
# MACs tell the direction, seconds tell the truth, and both belong to a map size and a machine. Not measured here:
# GPUs, phones, int8, and whole detectors; for the detectors see [notebook 5](05_integrate_into_rtdetr.ipynb).

# %% tags=["result"]
print(
    f"Mobile MQA beat multi-head attention on {won} of {len(verdicts)} maps and strides; "
    f"stride 2 beat stride 1 on: {yes}; timm's layer takes {over_timm:.2f}× as long as ours"
)
