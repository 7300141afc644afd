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
# Notebook 3 built a layer that is right. Here it becomes part of RT-DETR, a detector: from a picture it makes boxes,
# each with a class. We take it from `ultralytics`, a Python package that builds, trains and runs detectors, and no file
# of that package is touched.
#
# **What you need:** notebook 2 (queries, keys, values; MACs) and notebook 3 (the layer). You need not know ultralytics.
#
# **What you will have:** a model file of your own, built, checked, started from trained weights and predicting; an eye
# for what goes wrong without a word; and a picture of where a decoder reads.

# %% tags=["setup"]
# (the build puts notebooks/source/_setup.py here, the same in all seven)

# %%
import torch
from IPython.display import Markdown
from mqa_lib import cost, exercises, explorer, pictures, plots, record
from mqa_lib.datasets import keys_and_locks

# %%
import copy, difflib, hashlib, importlib.util, inspect, os, tempfile  # noqa: E401
from contextlib import chdir
from pathlib import Path

import yaml

# %%
SIZE_PX, SMALL_PX = 640, 160  # what RT-DETR is usually given, and enough where only shapes and counts matter
FULL = os.environ.get("MQA_MODE") == "full"
HOME, WORK = Path(plots.__file__).parents[2], Path(tempfile.mkdtemp(prefix="notebook-5-"))
generator = torch.manual_seed(5)

# %%
exercises.progress("05")

# %%
print(exercises.minutes("05"))

# %% [markdown]
# ## 1 · Nothing is edited
#
# The usual advice for a layer of one's own is to paste it into the installed package and to edit its `tasks.py`. The
# next update deletes it, and nobody can tell what was run. Here is a fingerprint of every Python file of the package:


# %%
def fingerprint():
    folder = Path(importlib.util.find_spec("ultralytics").origin).parent
    files = sorted(folder.rglob("*.py"))
    return len(files), hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]


before = fingerprint()
print(f"{before[0]} files, fingerprint {before[1]}…")

# %% [markdown]
# Now our names are made known to ultralytics, by an import. Has a file changed? (The last cell asks once more.)

# %%
from mqa_lib import rtdetr
from mqa_lib.rtdetr import audit, build, costs, fetch, fit, new_model
from ultralytics.nn import tasks
from ultralytics.utils import ASSETS

print("unchanged:", fingerprint() == before)

# %% [markdown]
# RT-DETR has three parts. A **backbone**, here a ResNet-50, turns a picture into maps at *strides* 8, 16 and 32: one
# cell of the stride-32 map stands for 32 × 32 pixels of the picture. An **encoder** mixes the three maps (its attention
# is called AIFI). A **decoder** asks them 300 questions and answers each with a box and a class. A text file, the
# *model file*, lists all of it row by row. The picture shows our block's way from there into the network. (The numbers
# of a `MobileMQABlock` are its channels, heads, channels of a head, and `kv_stride`.)

# %%
ours = rtdetr.load("rtdetr-resnet50-mobile-mqa")
backbone = audit.backbone_rows(ours.model)
drawn = [(row.text, row.kind, row.stride, row.read) for row in backbone]
plots.show(*plots.way_in(drawn, "MobileMQABlock", backbone[4].home, SIZE_PX))

# %% [markdown]
# The file is on disk and so is our class, in our package. The name lives in memory and is gone when the program ends.
# Step 2 is one assignment, `tasks.MobileMQABlock = MobileMQABlock`, and it looks as if that were all.
#
# ## 2 · How a row becomes a module
#
# To see what is missing, watch a small file being read. A row says: **from** which row it reads (−1 is the one
# before), how often it is **repeated**, which **class** it is, and with which **arguments**. The first argument of a
# `Conv` is the channels that it hands on, then come kernel and stride.

# %%
TINY = """
backbone:
  - [-1, 1, Conv, [8, 3, 2]]                  # 0
  - [-1, 1, Conv, [16, 3, 2]]                 # 1
head:
  - [-1, 1, nn.Upsample, [None, 2, nearest]]  # 2: twice as high, twice as wide
  - [[-1, 0], 1, Concat, [1]]                 # 3: stacks the channels of the rows it names
  - [-1, 1, Conv, [4, 1, 1]]                  # 4
"""

# %% [markdown]
# The function that reads such files is `parse_model`. We take ultralytics' own, without what our library adds, for one
# class (`nc`) and pictures of three channels (`ch`):

# %%
reader = inspect.unwrap(tasks.parse_model)
tiny = reader({"nc": 1, **yaml.safe_load(TINY)}, ch=3, verbose=False)[0]

# %% [markdown]
# A convolution also has to know its channels *in*, and the file does not say them. The reader works them out.
#
# ### Exercise 05-channels · predict · 1 min · ●○○
#
# You are the reader. How many channels does row 4, the last one, take in?

# %%
prediction = None

exercises.check("05-channels", prediction)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Row 4 reads row 3, and row 3 reads two rows. Which?
# </details>
#
# <details><summary>Hint 2</summary>
#
# Up-sampling changes height and width and leaves the channels alone.
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# prediction = 16 + 8
# ```
#
# Row 2 hands on the 16 channels of row 1, row 0 handed on 8, and `Concat` stacks them.
# </details>
#
# Let the network say it. What every row but the last takes and hands on, for a picture of 3 × 64 × 64, and what the
# last was built for:

# %%
for index, given, made in fit.steps(tiny, torch.zeros(1, 3, 64, 64)):
    if made is not None:
        taken = [tuple(each.shape[1:]) for each in (given if isinstance(given, list) else [given])]
        print(f"row {index}  {type(tiny[index]).__name__:9}{taken!s:31} → {tuple(made.shape[1:])}")
print("channels in of row 4:", tiny[4].conv.in_channels)

# %% [markdown]
# How did the reader know? Three of its lines, read from the installed file, with their numbers:

# %%
TELLING = ("globals()[m]", "c2 = args[1] if", "  c2 = ch[f]\n")
source, first = inspect.getsourcelines(reader)
for number, line in enumerate(source, first):
    if any(part in line for part in TELLING):
        print(f"{number}: {line.strip()}")

# %% [markdown]
# - `globals()[m]`: a class is looked up by its name among the names of `ultralytics.nn.tasks`. A class in *your*
#   notebook is not seen there; that fails loudly, with a `KeyError`.
# - `args[1] * 4`: for `ResNetLayer`, and for no other class, four times the second argument are handed on.
# - `c2 = ch[f]`, under the last `else`: any class that the reader does not know is assumed to hand on **as many
#   channels as it was given**. If that is wrong, nothing fails. You will see now what that does.
#
# ## 3 · Naming alone builds another model
#
# The article puts its attention inside the stages of the ResNet, in a class `ResNetLayer_MQA` that multiplies its
# channels by four. Its file names it in every row of the backbone:

# %%
content = build.content_of("rtdetr-resnet50-article")
for row in content["backbone"]:
    print(row)

# %% [markdown]
# The name is known, so ultralytics' own reader builds the whole detector:

# %%
named = reader({**copy.deepcopy(content), "nc": 1}, ch=3, verbose=False)[0]
print(f"named alone: {audit.params(named):,} parameters; the article prints {audit.PRINTED_PARAMS:,}")
assert audit.params(named) == 42_935_075

# %% [markdown]
# A plausible number, no warning. Running the rows until one stops shows what they hand on:

# %%
handed_on = []
try:
    for _, _, made in fit.steps(named, torch.zeros(1, 3, 64, 64)):
        handed_on += [] if made is None else [made.shape[1]]
except RuntimeError as error:
    print(f"channels handed on: {handed_on}\nrow {len(handed_on)} stops: {error}")

# %% [markdown]
# Row 5, a 1×1 convolution, was built for three channels: the picture's three, passed along by `c2 = ch[f]` five times.
# The backbone itself is right, because its arguments say all its channels. So the message comes late, when the model
# first runs, and from a row where nothing is to be mended.
#
# ### Exercise 05-starved · investigate · 4 min · ●●○
#
# How many parameters does row 5 lack? `network = audit.one_class("rtdetr-resnet50-stock")` builds ultralytics' own
# RT-DETR, whose row 5 is right, for one class. Compare: `audit.params(module)` counts; `named[5]` and
# `network.model[5]` are the two rows.

# %%
answer = None

exercises.check("05-starved", answer)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Count the right row, and take away what is there.
# </details>
#
# <details><summary>Hint 2</summary>
#
# To check it by hand: a 1×1 convolution has one weight for each pair of a channel in and a channel out. The norm
# behind it does not depend on the channels in.
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# answer = audit.params(audit.one_class("rtdetr-resnet50-stock").model[5]) - audit.params(named[5])
# ```
#
# By hand: (2048 − 3) · 256.
# </details>
#
# Two other rows read the backbone, too. What all three lack is the whole difference to the article's number:

# %%
lacking = sum((right - 3) * 256 for right in (2048, 1024, 512))
assert audit.params(named) + lacking == audit.PRINTED_PARAMS
print(f"{audit.params(named):,} + {lacking:,} = {audit.params(named) + lacking:,}")

# %% [markdown]
# Two honest ways out, and neither edits a file:
#
# - **Keep the channels.** A block that hands on what it is given makes `c2 = ch[f]` true. `MobileMQABlock` is of that
#   kind, and its name is all that it needs.
# - **Stand in.** The line `args[1] * 4` knows `ResNetLayer`. While a file is read that names `ResNetLayer_MQA`, and
#   only then, our library puts that class in the place of `ResNetLayer`, so its channels are worked out right.
#
# With that, the detectors are built right, for one class, as in the article:

# %%
networks = {
    name: audit.one_class(f"rtdetr-resnet50-{name}").eval() for name in ("stock", "article", "mobile-mqa")
}
stock, article, mobile = networks.values()
print(f"{audit.params(article):,} parameters, as printed:", audit.params(article) == audit.PRINTED_PARAMS)

# %% [markdown]
# And a wrong number in a row of ours is refused while the file is read, because the library then runs every row once.
# We write 64 where 96 belongs:

# %%
text = rtdetr.MODELS["rtdetr-nano-mobile-mqa"].read_text()
(WORK / "wrong.yaml").write_text(text.replace("MobileMQABlock, [96,", "MobileMQABlock, [64,"))
try:
    rtdetr.load(WORK / "wrong.yaml")
except ValueError as refusal:
    print(refusal)

# %%
exercises.quiz("05-silent")

# %% [markdown]
# ## 4 · The article's model, row by row
#
# The article prints its model's parameters row by row. We set our count beside it; if one of the 24 rows differed,
# `assert` would stop here. Shown are the rows that differ from the stock model:

# %%
rows, plain = audit.row_params(article), audit.row_params(stock)
assert tuple(rows) == audit.PRINTED_ROWS and sum(rows) == audit.PRINTED_PARAMS
names = [type(row).__name__ for row in article.model]
lines = [*zip(range(len(rows)), names, audit.PRINTED_ROWS, rows, plain, strict=True)]
lines = [line for line in lines if line[3] != line[4]]
lines.append(("", "all rows", audit.PRINTED_PARAMS, sum(rows), sum(plain)))
Markdown(audit.table("row | layer | the article prints | we count | stock model", lines))

# %% [markdown]
# Every row agrees to the last parameter. That does not prove equal arithmetic, but no row is missing or of another
# size. The rows shown hold the ResNet's 16 bottlenecks, and each got an attention.
#
# The article's log ends with "137.0 GFLOPs": billions of multiplications and additions for one picture of 640 px (two
# for each of notebook 2's MACs). An attention over a map of $n$ pixels costs twice: its 1×1 **projections** grow with
# $n$, its **matrix products** (queries with keys, weights with values) with $n^2$. The article's attention stands at
# strides 4, 8, 16 and 32, and down-samples no keys.
#
# ### Exercise 05-sixteen · predict · 2 min · ●●○
#
# How many times as much do the *products* of one block cost at stride 4 as at stride 8, channels alike?

# %%
prediction = None

exercises.check("05-sixteen", prediction)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# How many times as many pixels has a map at stride 4?
# </details>
#
# <details><summary>Hint 2</summary>
#
# Every pixel asks, and every pixel is asked.
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# prediction = (2 * 2) ** 2
# ```
#
# Twice as high and twice as wide is four times as many pixels, and the products grow with their square.
# </details>
#
# The four stages (products and projections of all their blocks), and then the printed figure, taken apart:

# %%
pixels = [(SIZE_PX // stage.stride) ** 2 for stage in audit.STAGES]
products = [stage.gflops(SIZE_PX, *audit.MATRIX_PRODUCTS) for stage in audit.STAGES]
projections = [stage.gflops(SIZE_PX, *audit.PROJECTIONS) for stage in audit.STAGES]
gib = [stage.block_cost(SIZE_PX).score_bytes / 2**30 for stage in audit.STAGES]
figures = ([f"{value:.3f}" for value in column] for column in (products, projections, gib))
stages = [(stage.stride, stage.blocks) for stage in audit.STAGES]
lines = [(*stage, *rest) for stage, *rest in zip(stages, pixels, *figures, strict=True)]
header = "stride | blocks | pixels n | products [GFLOPs] | projections [GFLOPs] | scores of one block [GiB]"
Markdown(audit.table(header, lines))

# %%
stock_gflops, mobile_gflops = audit.counted_gflops(stock), audit.counted_gflops(mobile)
true_gflops = stock_gflops + sum(products) + sum(projections)
rest = audit.PRINTED_GFLOPS - sum(projections)
assert abs(rest / stock_gflops - 1) < 0.02

# %%
Markdown(
    f"Take the projections ({sum(projections):.2f}) from the printed {audit.PRINTED_GFLOPS}: {rest:.2f} are left. That"
    f" is within {abs(rest / stock_gflops - 1):.1%} of what the stock model needs ({stock_gflops:.2f}, as today's"
    f" ultralytics counts). For the products, **{sum(products):.0f} GFLOPs, nothing is left**: they were not counted."
    f" The model's true cost is about **{true_gflops:.0f} GFLOPs, {true_gflops / stock_gflops:.1f} times the stock"
    " model**."
)

# %% [markdown]
# We suppose that the log was made by an older counter, which watched *modules*: a product written as `torch.matmul` is
# no module. (We have not run that version. `audit.module_gflops` counts in that way; `audit.torch_gflops` counts all,
# and a test holds it to the formula.)
#
# ## 5 · Where to put it: the model we recommend
#
# MobileNetV4 uses Mobile MQA only late, at strides 16 and 32, where few pixels are left; as a *residual block* of its
# own: norm, attention, a *layer scale* (a learnt factor for each channel), and the input added at the end; and with
# keys down-sampled at stride 16. The variant `mobile-mqa` does that, and we recommend it. `article-corrected` has the
# right layer in the article's places; `mqa-encoder` exchanges AIFI. What each really holds, we find by running it.
# Numbers on top are strides, `PublishedMQA` is the article's layer, and `EncoderMQA` the right one where AIFI was:

# %%
COLUMNS, placed = (4, 8, 16, 32, "encoder"), []
for kind in ("stock", "article", "article-corrected", "mobile-mqa", "mqa-encoder"):
    network = audit.one_class(f"rtdetr-resnet50-{kind}")
    found = audit.places(network)
    placed.append((kind, audit.params(network), *(found.get(column, "") for column in COLUMNS)))
Markdown(audit.table(f"variant | parameters | {' | '.join(map(str, COLUMNS))}", placed))

# %% [markdown]
# What does each place cost? Operations, stacked: the stock model's, what projections and convolutions add, and what the
# products add.

# %%
layers = (cost.mobile_mqa(1024, 40, 40, 4, 64, 64, kv_stride=2), cost.mobile_mqa(2048, 20, 20, 4, 64, 64))
own_products = sum(2 * (each.score_macs + each.value_macs) for each in layers) / 1e9
parts = {
    "stock": (stock_gflops, 0.0, 0.0),
    "article, as printed": (rest, sum(projections), 0.0),
    "article, in truth": (stock_gflops, sum(projections), sum(products)),
    "Mobile MQA at strides 16, 32": (stock_gflops, mobile_gflops - stock_gflops - own_products, own_products),
}
labels = ("stock model", "projections, convolutions", "matrix products")
gflops = {name: dict(zip(labels, values, strict=True)) for name, values in parts.items()}
counts = (audit.params(stock), audit.PRINTED_PARAMS, audit.params(article), audit.params(mobile))
plots.show(*plots.model_costs(gflops, dict(zip(parts, counts, strict=True))))

# %%
for name, network, total in (
    ("our two blocks", mobile, mobile_gflops),
    ("its sixteen", article, true_gflops),
):
    more, larger = total / stock_gflops - 1, audit.params(network) / audit.params(stock) - 1
    print(f"{name} add {more:.1%} operations and {larger:.1%} parameters to the stock model")

# %% [markdown]
# Parameters say little about what attention costs, and operations are not time. This was recorded once with
# `python -m mqa_lib costs`, for 80 classes, which takes a few more parameters. "Printed" is what today's ultralytics
# prints. Each variant was timed in turns with the stock model; the last columns give medians with quartiles, the very
# last with the norms folded as in notebook 3:

# %%
known = costs.read() if costs.OUT.exists() else []
Markdown(costs.table([row for row in known if "resnet50" in row.name]))

# %% [markdown]
# A new row is work on top, so at best it costs little. What it brings in accuracy is the subject of notebook 6; what a
# fair timing is, that of notebook 7.
#
# ## 6 · Trained weights, carried over
#
# Nobody trains RT-DETR from nothing. But trained weights are for a model without our rows, and every row behind a new
# one has another number. `carry_over` places the tensors row by row; one that finds no place of its shape is refused.
# We carry the small RT-DETR that comes with the course. (With `MQA_MODE=full`, the same cells fetch and carry
# `rtdetr-l.pt`, which its makers trained on COCO, a large set of photographs.)

# %%
checkpoint, size = HOME / "data/weights/rtdetr-nano-stock.safetensors", 128
base, with_ours, behind = "rtdetr-nano-stock", "rtdetr-nano-mobile-mqa", "4,6"
scene, drawn_picture = next(keys_and_locks.stream(5, 1, "val", size))
picture = drawn_picture
if FULL:
    try:
        checkpoint, size = fetch.coco_checkpoint(HOME / "runs").path, SIZE_PX
        base, with_ours, behind = "rtdetr-l", "rtdetr-l-mobile-mqa", "3,7"
        picture = pictures.read(ASSETS / "bus.jpg")
    except ConnectionError as offline:
        print(offline)
print(f"{checkpoint.name}: {checkpoint.stat().st_size:,} bytes")

# %%
carried = rtdetr.carry_over(checkpoint, with_ours)
print(carried.carried)

# %% [markdown]
# "Starts with the answers" can be tested on a picture. **Predict:** how far apart are the boxes and scores of the two
# models?

# %%
x = pictures.tensor(picture, (size, size))
original = rtdetr.load(checkpoint).model.float().eval()
with torch.inference_mode():
    theirs, own = original(x)[0], carried.model(x)[0]
apart = (theirs - own).abs().max().item()
# Zero on most machines. A PyTorch that chooses another kernel for the other memory layout rounds in the last digits.
assert apart < 1e-4
print(f"answers of shape {tuple(own.shape)}, largest difference: {apart}")

# %% [markdown]
# The same answers, but for rounding at most. The article's places do not have this, for there the signal must pass
# *through* the attention:

# %%
audit.carry_over(stock, article)
noise = torch.rand(1, 3, SMALL_PX, SMALL_PX)
pairs = zip(audit.decoder_maps(stock, noise), audit.decoder_maps(article, noise), strict=True)
moved = max(((b - a).abs().max() / a.std()).item() for a, b in pairs)
print(f"article's model with the stock weights: maps move by up to {moved:.2f} of their spread")

# %%
exercises.quiz("05-zero")

# %% [markdown]
# Weights can also come from elsewhere: from torchvision, whose ResNet-50 has the tensors of ours. There a last trap
# lies.

# %%
exercises.quiz("05-fits")

# %% [markdown]
# ## 7 · Your own model
#
# Whoever puts a block into a model file by hand moves all rows behind it. Every number that names one of them has to be
# counted anew, and one forgotten is silent.
#
# ### Exercise 05-renumber · implement · 5 min · ●●●
#
# Write `renumber(sources, after)`. `sources` are numbers of rows that later rows read, `after` is the row behind which
# a block is put. Who read row `after` should read the block. (Negative numbers count backwards; here none of them
# reaches back over the block.)


# %%
def renumber(sources, after):
    raise NotImplementedError  # return a tensor of the same shape


exercises.check("05-renumber", renumber)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Draw five rows, put a block behind row 2, and number them again. Which old row has the block's number now?
# </details>
#
# <details><summary>Hint 2</summary>
#
# `torch.where(condition, sources + 1, sources)`. Is the condition `>` or `>=`?
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def renumber(sources, after):
#     return torch.where(sources >= after, sources + 1, sources)
# ```
#
# The block has the number `after + 1`, and so has what came next before. With `>` the file loads and trains, and
# whoever read row `after` passes the block by.
# </details>
#
# The library does this for any RT-DETR. **Change the command to your taste**: other rows behind `--after`, other
# strides, `--num-heads`. In a terminal it begins with `python -m mqa_lib`. (From nothing a block's layer scale starts
# at the number that stands last in its row; `carry_over` sets it to 0.)

# %%
from mqa_lib.__main__ import main as command_line

COMMAND = f"new-model --base {base} --after {behind} --kv-stride 2,1 -o mine.yaml --force"
with chdir(WORK):
    command_line(COMMAND.split())

# %% [markdown]
# What is different from the file without blocks (`-`: replaced, `+`: yours)? Compare with your `renumber`:

# %%
texts = (file.read_text() for file in (new_model.base_file(base), WORK / "mine.yaml"))
files = [[line.split("#")[0].rstrip() for line in text.splitlines()] for text in texts]
print("\n".join(line for line in difflib.unified_diff(*files, n=0, lineterm="") if line[1:4] == "  -"))

# %% [markdown]
# Now check it as we checked ours: all weights placed, and the answers of the base, but for rounding.

# %%
mine = rtdetr.carry_over(checkpoint, WORK / "mine.yaml")
with torch.inference_mode():
    difference = (mine.model(x)[0] - theirs).abs().max().item()
assert difference < 1e-4
print(f"{mine.carried}\nlargest difference from the original's answers: {difference}")

# %% [markdown]
# It is a detector. Let it predict, and draw whatever scores 0.6 or more:

# %%
result = mine.predict(picture[..., ::-1], imgsz=size, conf=0.6, verbose=False)[0]  # ultralytics wants BGR
names, boxes = result.names, result.boxes
found = [(*b.xyxy[0].tolist(), f"{names[int(b.cls)]} {float(b.conf):.2f}", True) for b in boxes]
plots.show(
    plots.scenes([picture], [found], columns=1),
    f"A picture with {len(found)} boxes: {', '.join(name for *_, name, _ in found)}.",
)

# %% [markdown]
# What it knows came with the weights, for your blocks are silent until they are trained. The small model finds every
# shape, and cannot decide on the colour of a lock: each gets two. Does that change when blocks of Mobile MQA are
# trained? That is the question of notebook 6.
#
# ## 8 · What it looks at
#
# `record.capture` runs a model on a picture and keeps queries and keys of each attention: your blocks, and AIFI. How
# much is the strongest key read, at the middle of the picture?

# %%
untrained = f"carried from {checkpoint.name}; new blocks are untrained"
for each in record.capture(mine, picture, untrained, size=size):
    maps = each.rows(each.query_at(picture.shape[0] // 2, picture.shape[1] // 2))
    print(f"{explorer.layer_name(each)}: strongest {maps.max() / maps.mean():.1f}× the average")
print("what every record says of itself:", each.weights_are)

# %% [markdown]
# A picture of your blocks' maps would show *something* all the same, and nothing in it tells whether weights were
# trained; so every record says it. How trained blocks look, you have seen in notebook 4. What was left open there is
# the decoder. It reads no grid: for each detection every head chooses a few *points* on the three maps, layer after
# layer. Larger marks weigh more. White is the box a layer starts from, blue the one where the decoder ends. The trained
# small RT-DETR, for one lock:

# %%
nano = rtdetr.load(HOME / "data/weights/rtdetr-nano-mobile-mqa.safetensors")
dots = record.capture_decoder(nano, drawn_picture)
best = next(i for i, label in enumerate(dots.labels) if label.startswith("lock"))
plots.show(plots.sampling_figure(dots, best), plots.sampling_alt(dots, best))

# %%
colours = [f"lock-{name}" for name in keys_and_locks.COLOURS]
key = next(pair.key for pair in scene.pairs if colours[pair.colour] == dots.labels[best])
away = abs(dots.points[:, best] - (key.row + 0.5, key.column + 0.5)).max(-1).min()
print(
    f"the nearest point lies {away:.0f} pixels from the middle of the coloured key, whose radius is {key.radius}"
)
assert away > key.radius

# %% [markdown]
# The points follow the lock's outline, and none lies on the coloured key. So the colour reached the answer on another
# way: in the maps, through the block or AIFI, or from another of the decoder's questions. Which, one finds by changing
# the picture, as in notebook 4.
#
# At last *your* model in the explorer. Which of its layers choose, and which read all alike?

# %%
view = explorer.show(explorer.look(mine, picture, "a picture", untrained, size=size))

# %% [markdown]
# For a model that you have trained, `python -m mqa_lib explore best.pt photo.jpg -o attention.html` writes a page.
#
# ## What you know now
#
# - A model file finds a class by its name in memory; nothing has to be edited on disk.
# - For a class that it does not know, ultralytics assumes that channels stay. A block that keeps them makes that true.
# - On large maps an attention's cost lies in its products, so put it late and down-sample keys where the map is large.
# - A block behind a layer scale of zero leaves trained weights their answers, to the bit.
#
# Three questions to take along:
#
# 1. `rtdetr.load` refuses wrong channels. How would you test that nobody passes your block by?
# 2. Which single row of the article's backbone could be unknown to ultralytics without any harm?
# 3. What would `--after 1,3 --kv-stride 1` cost at 640 px? Estimate it, then look how long it predicts.
#
# Training, tracking, exporting, a fresh Python, several GPUs: [INTEGRATION.md](../mqa_lib/rtdetr/INTEGRATION.md).
# Accuracy was not shown here; that needs trained twins. **Next:** [notebook 6](06_does_it_help.ipynb).

# %%
assert fingerprint() == before
print("ultralytics unchanged after all of this:", fingerprint() == before)

# %% tags=["result"]
print(
    f"Named alone {audit.params(named):,} parameters, right {audit.PRINTED_PARAMS:,}; the printed 137.0 GFLOPs are"
    f" {true_gflops:.0f}, {true_gflops / stock_gflops:.1f}x stock, Mobile MQA at strides 16 and 32 {mobile_gflops:.1f}"
    f" ({mobile_gflops / stock_gflops - 1:+.1%}); a model of one's own starts with its base's answers"
    f" (largest difference {apart:g})"
)
