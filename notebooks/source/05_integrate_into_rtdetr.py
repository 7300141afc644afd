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
# # 5 · How does it get into RT-DETR without editing ultralytics?
#
# Notebook 3 built a layer that is right. Here it becomes part of a detector, RT-DETR, as the package `ultralytics`
# ships it. You will see
#
# 1. how a layer of your own gets a name in a model file, with no file of ultralytics touched,
# 2. the article's model, row by row, and what its printed "137.0 GFLOPs" leaves out,
# 3. the model that we recommend: the stock model and two more rows,
# 4. all variants running, the recommended one from the stock model's weights; how good and how fast they are is left to
#    notebooks 6 and 7.
#
# You need to know what a convolution is and what queries, keys and values are (notebook 2).

# %% tags=["setup"]
# (the build puts notebooks/source/_setup.py here, the same in all seven)

# %%
import importlib.util
from hashlib import sha256
from pathlib import Path

import torch
from IPython.display import Markdown

from mqa_lib import cost, plots, record
from mqa_lib.datasets import keys_and_locks

# %% [markdown]
# Two sizes of picture, and a seed for the random weights:

# %%
SIZE_PX = 640  # what RT-DETR is usually given; counted, not run
SMALL_PX = 160  # what we run here
generator = torch.manual_seed(5)

# %% [markdown]
# ## 1 · A name is all that is needed
#
# RT-DETR has three parts. A **backbone**, here a ResNet-50, turns a picture into maps at *strides* 8, 16 and 32: one
# pixel of the stride-32 map stands for 32 × 32 pixels of the picture. An **encoder** mixes the three maps. A
# **decoder** asks them 300 questions and answers each with a box and a class. In ultralytics a model is a text file,
# and each row names a class and its arguments.
#
# The usual advice for a layer of one's own is to paste it into the installed package and to edit its `tasks.py`. Then
# the next update deletes it, and nobody can tell what was run. We first take a fingerprint of every Python file of
# the installed package:


# %%
def fingerprint():
    folder = Path(importlib.util.find_spec("ultralytics").origin).parent
    files = sorted(folder.rglob("*.py"))
    return len(files), sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


# %% [markdown]
# This is what it says before our library comes in:

# %%
before = fingerprint()
print(f"{before[0]} files, fingerprint {before[1][:16]}…")

# %% [markdown]
# Now we import `mqa_lib.rtdetr`, which makes our names known, and build the recommended model from its file:

# %%
from mqa_lib import rtdetr
from mqa_lib.rtdetr import audit

# %% [markdown]
# The names are known now. Has a file changed?

# %%
ours = rtdetr.load("rtdetr-resnet50-mobile-mqa")
after = fingerprint()
assert after == before
print(f"{after[0]} files, fingerprint {after[1][:16]}…, unchanged:", after == before)

# %% [markdown]
# How? When ultralytics reads a row, it looks the class up by name in the memory of its module `tasks`. Writing a name
# there is one assignment; it lasts as long as the program. A block that keeps its number of channels needs no more:

# %%
from ultralytics.nn import tasks

print(tasks.MobileMQABlock, "is ours:", tasks.MobileMQABlock.__module__.startswith("mqa_lib"))

# %% [markdown]
# Here is the whole way in one picture. The rows of the file are the real ones; what their numbers mean comes in section
# 4. The library finds each row's stride by running it, and asks the class where it lives:

# %%
backbone = audit.backbone_rows(ours.model)
block_home = next(row.home for row in backbone if row.kind == "MobileMQABlock")
drawn = [(row.text, row.kind, row.stride, row.read) for row in backbone]
plots.show(*plots.way_in(drawn, "MobileMQABlock", block_home, SIZE_PX))

# %% [markdown]
# The row names, the name finds, the class is built where the row stands, and its map goes on: at stride 16 from row 4,
# at stride 32 from row 6, into the encoder (also called the neck) and from there to the decoder.
#
# There is a second condition, easily missed. ultralytics also works out how many channels each row hands on, and for
# a ResNet stage it does that only for the class that *is* its own `ResNetLayer`. Under any other name a stage counts
# as handing on what it received, and the model is built silently wrong. The article's stages are of that kind.
# `rtdetr.register` therefore lets them stand in for `ResNetLayer` while their model file is being read, and only
# then. A block that keeps its channels, as ours does, is the simpler way.
#
# ## 2 · The article's model, row by row
#
# The article prints the log of its model: parameters for each of 24 rows, for one class. We rebuild that model from
# *its* description, and all other variants too, and set our count beside its log:

# %%
networks = {name: audit.one_class(name).eval() for name in rtdetr.MODELS}
stock, article, mobile = (
    networks[f"rtdetr-resnet50-{variant}"] for variant in ("stock", "article", "mobile-mqa")
)

# %% [markdown]
# If a single row differed from the log, the first line with `assert` would stop here:

# %%
rows, plain = audit.row_params(article), audit.row_params(stock)
assert tuple(rows) == audit.PRINTED_ROWS and sum(rows) == audit.PRINTED_PARAMS
layers = [type(row).__name__ for row in article.model]
lines = [*zip(range(len(rows)), layers, audit.PRINTED_ROWS, rows, plain, strict=True)]
lines.append(("", "all", audit.PRINTED_PARAMS, sum(rows), sum(plain)))
Markdown(audit.table("row | layer | the article prints | we count | stock model", lines))

# %% [markdown]
# Every row agrees to the last parameter. That does not prove equal arithmetic (a stride has no parameters), but no row
# is missing or of another size. Against the stock model only rows 1 to 4 differ: there each of the 16 bottlenecks of
# the ResNet got an attention.

# %%
added = sum(rows) - sum(plain)
assert added == sum(rows[1:5]) - sum(plain[1:5]) > 0
Markdown(
    f"The attention adds {added:,} parameters, {added / sum(plain):.2%} of the stock model. The article calls"
    " the model lightweight; by parameters it is heavier than stock, because the attention replaces nothing."
)

# %% [markdown]
# ## 3 · What the 137.0 leaves out
#
# The log ends with "137.0 GFLOPs": billions of multiplications and additions for one picture of 640 × 640 pixels. Each
# counts as one, so a multiplication with the addition after it, a MAC, makes two (2 FLOPs = 1 MAC). Let us count for
# ourselves. An attention over a map of $n$ pixels has two kinds of cost:
#
# - its 1×1 **projections**, which grow with $n$;
# - its **matrix products** (every query with every key, every weight with every value), which grow with $n^2$.
#
# The article's attention has $h = 2$ heads of $d_k = 48$ channels and no down-sampling of keys, and it stands at
# strides 4, 8, 16 and 32.
#
# **Predict before you run:** a map at stride 4 has four times the pixels of one at stride 8. How many times as much
# do the matrix products of one block cost there?

# %%
pixels = [(SIZE_PX // stage.stride) ** 2 for stage in audit.STAGES]
products = [stage.gflops(SIZE_PX, *audit.MATRIX_PRODUCTS) for stage in audit.STAGES]
projections = [stage.gflops(SIZE_PX, *audit.PROJECTIONS) for stage in audit.STAGES]
gib = [stage.block_cost(SIZE_PX).score_bytes / 2**30 for stage in audit.STAGES]

# %% [markdown]
# A row for each stage of the backbone; products and projections are those of all its blocks:

# %%
header = "stride | blocks | pixels n | products [GFLOPs] | projections [GFLOPs] | scores of one block [GiB]"
figures = ([f"{value:.3f}" for value in column] for column in (products, projections, gib))
stages = [(stage.stride, stage.blocks) for stage in audit.STAGES]
Markdown(
    audit.table(header, [(*stage, *rest) for stage, *rest in zip(stages, pixels, *figures, strict=True)])
)

# %% [markdown]
# Four times the pixels, sixteen times the products of a block (the first row has three blocks, the second four). At
# stride 4 one block compares 25,600 pixels with 25,600 pixels, twice, and its score matrix alone fills gigabytes for
# a *single* picture. In training all of them have to be kept. The stock model, ours, and the article's with everything
# counted:

# %%
assert pixels[0] == 25_600 and abs(products[0] / 3 / (products[1] / 4) - 16) < 1e-9
stock_gflops, mobile_gflops = audit.counted_gflops(stock), audit.counted_gflops(mobile)
true_gflops = stock_gflops + sum(products) + sum(projections)

# %% [markdown]
# Now we can take the printed figure apart:

# %%
rest = audit.PRINTED_GFLOPS - sum(projections)
kept = 3 * 16 * gib[0]  # three blocks at stride 4, 16 pictures
assert abs(rest / stock_gflops - 1) < 0.02
Markdown(
    f"All products together cost **{sum(products):.0f} GFLOPs**, the projections {sum(projections):.2f}. If we take the"
    f" projections from the printed {audit.PRINTED_GFLOPS}, then {rest:.2f} are left, and that much is needed for the"
    f" stock model (today's ultralytics counts {stock_gflops:.2f} for it). For the products **nothing is left**: they"
    f" were not counted. The model's true cost is about **{true_gflops:.0f} GFLOPs,"
    f" {true_gflops / stock_gflops:.1f} times the stock model**. Training with 16 pictures at a time has to keep"
    f" {kept:.0f} GiB of scores at stride 4 alone."
)

# %% [markdown]
# We do not have to believe the formula. Here it is against PyTorch's own counter, on a small picture, by running the
# article's model and the stock one:

# %%
by_torch = audit.torch_gflops(article, SMALL_PX) - audit.torch_gflops(stock, SMALL_PX)
by_formula = audit.article_gflops(SMALL_PX)
assert abs(by_torch / by_formula - 1) < 1e-6
print(f"attention at {SMALL_PX} px: counted {by_torch:.4f} GFLOPs, formula {by_formula:.4f} GFLOPs")

# %% [markdown]
# Why were the products not counted? A product written as `torch.matmul` is no *module*. A counter that watches only
# modules, convolutions and linear layers, must miss it. We built one and ran it on the same two models:

# %%
by_modules = audit.module_gflops(article, SMALL_PX) - audit.module_gflops(stock, SMALL_PX)
projected = audit.article_gflops(SMALL_PX, *audit.PROJECTIONS)
assert abs(by_modules / projected - 1) < 1e-6
print(
    f"attention: a counter of modules sees {by_modules:.4f} GFLOPs, the projections alone are {projected:.4f}"
)

# %% [markdown]
# It sees the projections and nothing else, which is what the printed figure holds. We suppose that the article's log
# was made by such a counter; we have not run the version that made it. The counter that ultralytics uses today does
# have a rule for `torch.matmul` (read in `thop/profile.py` of ultralytics-thop 2.2.3).
#
# ## 4 · The recommended model: two more rows
#
# MobileNetV4, where Mobile MQA comes from, uses it only late, at strides 16 and 32, where few pixels are left; as a
# *residual block* of its own (norm, attention, layer scale, and the input added at the end); and with keys and values
# down-sampled at stride 16. That is what our model file says:

# %%
text = rtdetr.MODELS["rtdetr-resnet50-mobile-mqa"].read_text()
print(text[: text.index("head:")].strip())

# %% [markdown]
# Compared with the stock file there are two new rows. `MobileMQABlock, [1024, 4, 64, 2]` means: 1024 channels, 4
# query heads of 64 channels each, `kv_stride` 2. Row 3 hands its map to row 4, and *row 4* is what the head reads for
# stride 16, so every number in the head that pointed at a later row moved up. Parameters can be had by formula, too:

# %%
block_costs = {
    4: cost.mobile_mqa(1024, 40, 40, num_heads=4, key_dim=64, value_dim=64, kv_stride=2),
    6: cost.mobile_mqa(2048, 20, 20, num_heads=4, key_dim=64, value_dim=64),
}

# %% [markdown]
# The formula against the modules that were built:

# %%
for index, layer in block_costs.items():
    block = mobile.model[index]
    assert audit.params(block) == layer.params + 3 * block.dim  # norm and layer scale: three a channel
    print(f"row {index}: {type(block).__name__}, {block.dim} channels, {audit.params(block):,} parameters")

# %% [markdown]
# Where does the cost of our two blocks lie? In the article's attention at stride 4 nearly all is products. On small
# maps it is the other way round:

# %%
shares = {index: layer.projection_macs / layer.macs for index, layer in block_costs.items()}
early, late = (audit.STAGES[stage].block_cost(SIZE_PX) for stage in (0, 3))
assert min(shares.values()) > 0.5
Markdown(
    f"Projections are **{shares[4]:.0%}** of the MACs of our attention in row 4 and **{shares[6]:.0%}** in row 6."
    f" In a block of the article's they are {early.projection_macs / early.macs:.1%} at stride 4 and"
    f" {late.projection_macs / late.macs:.0%} at stride 32."
)

# %% [markdown]
# Now all models side by side. The products of our attention come from the same formula as the article's. What else
# our blocks add is the rest of what ultralytics counts more than for the stock model.

# %%
own_products = sum(2 * (layer.score_macs + layer.value_macs) for layer in block_costs.values()) / 1e9
parts = {
    "stock": (stock_gflops, 0.0, 0.0),
    "article, as printed": (rest, sum(projections), 0.0),
    "article, in truth": (stock_gflops, sum(projections), sum(products)),
    "Mobile MQA at strides 16, 32": (stock_gflops, mobile_gflops - stock_gflops - own_products, own_products),
}

# %% [markdown]
# Bars on the left are stacked from these parts:

# %%
labels = ("stock model", "projections, convolutions", "matrix products")
gflops = {name: dict(zip(labels, values, strict=True)) for name, values in parts.items()}
counts = (audit.params(stock), audit.PRINTED_PARAMS, audit.params(article), audit.params(mobile))
plots.show(*plots.model_costs(gflops, dict(zip(parts, counts, strict=True))))

# %% [markdown]
# In words, and against the stock model:

# %%
Markdown(
    f"Our two blocks add {mobile_gflops / stock_gflops - 1:.1%} to the stock model's operations and"
    f" {audit.params(mobile) / audit.params(stock) - 1:.1%} to its parameters; the article's sixteen add"
    f" {true_gflops / stock_gflops - 1:.0%} and {audit.params(article) / audit.params(stock) - 1:.1%}. So we have"
    " *more* parameters than the article, and far fewer operations: parameters say little about what attention costs."
)

# %% [markdown]
# Operations are not time, and time is measured in notebook 7. Memory can be worked out here: what a score matrix of
# one block would take if it were written out, as the article's layer does. (Our layer uses a fused kernel that need
# not write it; the bars for it are an upper bound.) At stride 32 ours is the larger, because it has four heads and
# the article's has two; what counts is the left end of the picture.

# %%
own_gib = [layer.score_bytes / 2**30 for layer in block_costs.values()]
both = {"the article": gib, "Mobile MQA": [0.0, 0.0, *own_gib]}
fig, alt = plots.score_memory(both, [f"stride {stage.stride}" for stage in audit.STAGES])
plots.show(fig, alt)

# %% [markdown]
# ## 5 · All variants run
#
# Each takes the same small picture of noise. The decoder gives 300 answers of six numbers: a box, a score, a class.
# `nano` is a small detector that trains on a CPU and asks fewer questions. Parameters are those for one class; notebook
# 6's `nano` models have five, and so a few more. None of these is trained, so *what*
# they answer means nothing yet. The last two columns try a picture that is not square, and the memory order
# `channels_last`.

# %%
noise = torch.rand(1, 3, SMALL_PX, SMALL_PX)
inputs = noise, noise[..., :128], noise.contiguous(memory_format=torch.channels_last)
answers = [
    (name, audit.params(each), *(audit.answer(each, x) for x in inputs)) for name, each in networks.items()
]
Markdown(audit.table("model | parameters | square | 160 × 128 | channels_last", answers))

# %% [markdown]
# The article's model stops on a picture that is not square, because its layer takes the number of rows for the number
# of columns (notebook 3). It also stops in `channels_last`, which ultralytics chooses by itself for prediction on x86
# CPUs under Linux and Windows (`nn/autobackend.py`) and for training on a GPU outside Windows (`engine/trainer.py`): so
# we read in the source of version 8.4.190; here we only ran the model on such a picture.
#
# ## 6 · A new block should not hurt at first
#
# Trained weights are precious. If the two new rows changed the maps at once, everything behind them would have to be
# learnt anew. The *layer scale* prevents that: it multiplies what the attention adds by a small number, 1e-5 at
# first. We carry the stock model's weights over, row by row, and compare what the decoder receives:

# %%
audit.carry_over(stock, mobile)
theirs, own = audit.decoder_maps(stock, noise), audit.decoder_maps(mobile, noise)
print("maps that the decoder receives:", [tuple(each.shape[1:]) for each in own])

# %% [markdown]
# How far are they apart?

# %%
moved = max(((b - a).abs().max() / a.std()).item() for a, b in zip(theirs, own, strict=True))
assert moved < 0.01
Markdown(
    f"The maps differ by at most {moved:.0e} of their spread: with the stock model's weights, the new model starts out"
    " as the stock model. From there training decides how much attention it wants."
)

# %% [markdown]
# The article puts its attention *in series*: what a bottleneck computes has to pass through it, and only the
# bottleneck's own shortcut leads round. Does that model, too, start out as the stock one? We carry the same weights
# over and compare the same maps:

# %%
audit.carry_over(stock, article)
series = audit.decoder_maps(article, noise)
apart = max(((b - a).abs().max() / a.std()).item() for a, b in zip(theirs, series, strict=True))
assert apart > 1000 * moved
print(
    f"article's model with stock weights: maps differ by up to {apart:.2f} of their spread; ours: {moved:.0e}"
)

# %% [markdown]
# It does not: the stock weights are there, and the decoder receives other maps. These stock weights are random ones;
# how much a *trained* model would lose is not measured here.
#
# ## 7 · The attention inside
#
# `record.capture` runs a model on a picture and keeps queries and keys of each attention it meets: our two blocks,
# and AIFI, the attention that stock RT-DETR has in its encoder anyway. The picture is one of Keys & Locks (notebook
# 1):

# %%
_, picture = next(keys_and_locks.stream(5, 1, "val", SMALL_PX))
sight = record.capture(ours, picture, "Random weights: nothing was trained.", size=SMALL_PX)
for each in sight:
    maps = f"queries {each.query_grid}, keys {each.key_grid}, heads {each.num_heads}"
    print(
        f"{each.layer:14}{each.kind:12}{maps:47}entropy {each.entropy().mean():.2f} of {each.uniform_entropy:.2f} bits"
    )

# %% [markdown]
# The entropy says how many keys a query spreads over; the largest possible value means all alike. Untrained
# attention looks everywhere a little: a picture of it would be of one colour. Notebook 4 shows trained attention.
#
# ## 8 · What is not shown here
#
# No word was said about accuracy. The article gives no accuracy number, and a fair one needs training of twins with
# the same data, seed and schedule; notebook 6 does that at a small scale. Operations are not milliseconds; notebook 7
# measures. And 640 px is the size of the comparison because the article uses it; at other sizes the products of the
# article's model grow with the fourth power of the side, ours with the same power from a far smaller start.

# %% tags=["result"]
print(
    f"The article's table is reproduced ({audit.params(article):,} parameters); its 137.0 GFLOPs are {true_gflops:.0f},"
    f" {true_gflops / stock_gflops:.1f}x stock; Mobile MQA at strides 16 and 32 costs {mobile_gflops:.1f}"
    f" ({mobile_gflops / stock_gflops - 1:+.1%})"
)

# %% [markdown]
# ## What you know now
#
# - A model file finds a class by its name in memory; nothing has to be edited on disk.
# - A block that keeps its channels is the easy way in; for anything else ultralytics has to be told about channels.
# - On large maps an attention's cost lies in its products, which grow with the square of the pixels; on small maps it
#   lies in the projections. So put it late, and down-sample keys where the map is still large.
# - A GFLOPs figure is only as good as its counter.
#
# **Next:** notebook 6 trains the detectors and compares them.
