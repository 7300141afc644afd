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
# # 6 · Does it help?
#
# Notebook 5 put Mobile MQA into RT-DETR. Many articles stop there, or train once and compare two numbers. This
# notebook asks four questions. For each there is a **control**: a run that could show that we are wrong. The answers
# appear as the runs are recorded.
#
# **What you need:** notebook 1 (Keys & Locks) and notebook 5 (backbone, AIFI and decoder of RT-DETR).
#
# **What you will have:** a rule for when a comparison is long enough, an experiment that shows what a trained detector
# loses when one part is left out, and the recorded comparison with its controls, and with what is still missing.

# %% tags=["setup"]
# (the build puts notebooks/source/_setup.py here, the same in all seven)

# %%
import contextlib, json, shutil, sys, tempfile  # noqa: E401
from pathlib import Path
import numpy as np
from IPython.display import Markdown, display
from mqa_lib import contact_sheet, exercises, experiments, plots, rtdetr
from mqa_lib.datasets import inspect, yolo
from mqa_lib.rtdetr import evaluate, interventions, train

# %%
HOME = Path(plots.__file__).parents[2]
DATA = HOME / "data/keys_and_locks/data.yaml"
GRID = HOME / "data/experiments/detectors.yaml"
GOAL = experiments.SHARE

# %%
exercises.progress("06")

# %%
print(exercises.minutes("06"))

# %% [markdown]
# ## The task
#
# You know the pictures from notebook 1. Here they are harder: the shapes lie anywhere, and a detector has to find them,
# too. Look at the boxes. A lock looks the same in all four classes. Its class is the colour of the key with its shape.

# %%
report = yolo.checked(DATA)
plots.show(contact_sheet.sheet(report, 2), contact_sheet.alt(report))

# %% [markdown]
# So the class of a lock needs **long-range context**: information from far away in the picture. The class `key` does
# not; it is our first control.
#
# ### Exercise 06-chance · predict · 1 min · ●○○
#
# A detector finds every lock, but it cannot see the keys. Which share of the locks gets the correct colour? Give a
# number from 0 to 1.

# %%
prediction = None

exercises.check("06-chance", prediction)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# How many lock classes are there?
# </details>
#
# <details><summary>Hint 2</summary>
#
# The four colours are equally frequent.
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# prediction = 1 / 4
# ```
#
# Without the key one can only guess. This level is called *chance*.
# </details>
#
# The usual score of a detector is mAP: the mean over the classes of the *average precision*. Sort the boxes of a class
# by confidence, and average the precision over recall. (For mAP50 a box is correct if it overlaps the true one by
# half; mAP50-95 averages over stricter overlaps.) It mixes two questions: is the lock found, and is its class correct?
# We take them apart. **Colour accuracy** is the share of the found locks whose class is correct.
#
# ### Exercise 06-colours · implement · 6 min · ●●○
#
# `colour_accuracy(truth, named, found)` takes three tensors with one entry per lock: its true class, the class that the
# detector named, and whether the lock was found. Return the share of the *found* locks whose class is correct, as a
# tensor with one number.


# %%
def colour_accuracy(truth, named, found):
    raise NotImplementedError  # return a tensor with one number


exercises.check("06-colours", colour_accuracy)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# What is named at a lock that was not found means nothing. Leave those locks out in the numerator *and* in the
# denominator.
# </details>
#
# <details><summary>Hint 2</summary>
#
# `found` can be used as an index: `truth[found]`.
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def colour_accuracy(truth, named, found):
#     return (truth[found] == named[found]).double().mean()
# ```
# </details>
#
# ## How long is long enough?
#
# The probe of notebook 1 was trained without a layer between its convolutions and its answer, and with several layers,
# with shapes at any place of the picture. A line shows its accuracy on validation pictures while it trains. (The
# learning rate rises for 250 steps, then falls to zero at the end, so every line is flat there.) **Predict:** which
# layers solve the task? Then cover the right part of the chart with your hand. What would you say from the first 200
# steps alone?

# %%
ablation = json.loads((HOME / "data/probe/ablation.json").read_text())["rows"]
ARMS = (
    "no attention",
    "convolutions",
    "multi-head",
    "multi-query",
    "Mobile MQA, kv_stride 2",
    "the article's layer",
)
lines = {
    arm: [[(step, share) for step, share in row["curve"]] for row in ablation if row["arm"] == arm]
    for arm in ARMS
}
lines = {arm: seeds for arm, seeds in lines.items() if seeds}
axes = ("training steps of 64 pictures", "accuracy on validation pictures")
plots.show(plots.seed_curves(lines, *axes, ("chance", 0.25)), plots.seed_curves_alt(lines, *axes))
for arm, seeds in lines.items():
    early, end = (np.median([dict(line)[step] for line in seeds]) for step in (200, 1000))
    print(f"{arm:>24}: {early:.0%} after 200 steps, {end:.0%} after 1,000")

# %% [markdown]
# From the first 200 steps one would say that no layer solves the task. At the end correct attention is far above
# chance. Whether the layers with attention differ from each other, one seed and one learning rate for all do not tell.
#
# **The first edition of this course made this mistake with detectors.** It stopped after 28,800 pictures, while the
# curves were flat *at chance*, and reported that stock RT-DETR cannot learn Keys & Locks. Its runs could not show
# that, and the claim is withdrawn.
#
# A flat line at chance says nothing: wait until it has risen and is flat again, or say "not within this many
# pictures". And ask a second question that does not depend on when one stops: **how many pictures does a model need
# until its accuracy is 90 %?** (Pictures *shown*: the same ones come again in every epoch.)
#
# ### Exercise 06-sooner · investigate · 6 min · ●●○
#
# After how many training *pictures* is the accuracy of `"Mobile MQA, kv_stride 2"` at least 0.9 for the first time?
# Take the median over the seeds in `lines`. A step shows 64 pictures.

# %%
answer = None

exercises.check("06-sooner", answer)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# For each seed take the first point of its line whose accuracy is at least 0.9.
# </details>
#
# <details><summary>Hint 2</summary>
#
# `next(step for step, share in line if share >= 0.9)`, and `np.median` over the lines, times 64.
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# ours = lines["Mobile MQA, kv_stride 2"]
# answer = 64 * np.median([next(step for step, share in line if share >= 0.9) for line in ours])
# ```
# </details>
#
# ## The comparison of detectors
#
# Every variant is trained from scratch with the same pictures and a constant learning rate, so that a longer run
# simply goes on where a shorter one ends. A run ends when its colour accuracy is 98 % in two epochs in a row, or after
# 96,000 pictures. It is one small file:

# %%
print(GRID.read_text())

# %% [markdown]
# `python -m mqa_lib compare data/experiments/detectors.yaml` makes these runs, or goes on with them. They take many
# hours, and are recorded one by one:

# %%
records = experiments.read_runs(HOME / "data/runs/detectors", GRID, missing_ok=True)
full = [record for record in records if record["experiment"]["arm"] == "from-scratch"]
counts = experiments.recorded(GRID, records)
for name, (done, of) in counts.items():
    if done:
        print(f"{name}: {done} of {of} seeds")
print(f"Not run yet: {'; '.join(name for name, (done, _) in counts.items() if not done) or 'nothing'}.")
found = experiments.until(full)

# %%
Markdown(experiments.until_table(found, experiments.LABELS) if found else "No run is recorded yet.")


# %%
def chart(*variants):
    runs = {experiments.LABELS[name]: found[name] for name in variants if name in found}
    if not runs:
        print("None of these has been run yet.")
        return
    reached = {name: [run.pictures for run in each] for name, each in runs.items()}
    trained = {name: [run.trained for run in each] for name, each in runs.items()}
    label = f"pictures shown until {GOAL:.0%} colour accuracy"
    plots.show(plots.until_dots(reached, trained, label), plots.until_dots_alt(reached, label))


# %%
def sentence(name, base):
    print(f"- {experiments.compared(found, name, base, experiments.LABELS)}")


# %% [markdown]
# ## Question 1 · Does RT-DETR need attention in its backbone?
#
# The controls: stock without AIFI, the only attention of its encoder (`no-encoder`); and convolutions with as many
# parameters in the places of Mobile MQA.

# %%
RTDETR = [f"rtdetr-nano-{kind}" for kind in ("stock", "no-encoder", "mobile-mqa", "convolutions")]
chart(*RTDETR)
for variant in RTDETR[1:]:
    sentence(variant, "rtdetr-nano-stock")

# %% [markdown]
# RT-DETR without Mobile MQA still has long-range attention: AIFI in its encoder, self-attention among the queries of
# its decoder, and sampling points that may lie anywhere. What does a trained detector lose when one of them is
# switched off? This is an **intervention**: it shows what the answer depends on, which a map of attention cannot.
#
# - `backbone attention`: the blocks are left out.
# - `AIFI` and `decoder self-attention`: each token attends only to itself.
# - `far sampling points`: the decoder's points must lie inside the box that a layer starts from.
#
# The bundled detector with Mobile MQA had *dense supervision of its backbone on the same task*: its backbone was
# taught the colours directly. **Predict:** which part does it need most?

# %%
model = rtdetr.load(HOME / "data/weights/rtdetr-nano-mobile-mqa.safetensors")
print(f"{model.card['weights_are']}.")
rows, left = ["| switched off | locks found | colour accuracy |", "|---|---|---|"], {}
for part in ("nothing", *interventions.PARTS):
    switched = contextlib.nullcontext() if part == "nothing" else interventions.without(model, part)
    with switched:
        score = evaluate.evaluate(model, DATA)
    counts, left[part] = score["lock colours"], experiments.right_colours(score)
    rows.append(f"| {part} | {counts['found']} of {counts['locks']} | {left[part]:.1%} |")
Markdown("\n".join(rows))

# %%
needed = [part for part, share in left.items() if share < 0.5]
print(f"Below 50 % without: {', '.join(needed) or 'no single part'}.")
assert needed == ["backbone attention"] and left["nothing"] > 0.9

# %% [markdown]
# Two cautions. Leaving a block out changes everything behind it, so the fall shows that the detector *needs* the
# block; that it needs what the block reads from far away is the likely reason, and not yet shown. And this is one
# detector: another one, trained from scratch, can be asked in the same way.
#
# ## Question 2 · And a detector that has no attention of its own?
#
# Newer YOLOs have attention; our small one has none. `yolo-nano-*` has the same backbone and neck as our RT-DETR
# without AIFI, under the convolutional head of YOLOv8. Its window covers the whole picture, but only through
# convolutions: nothing in it compares two far places directly, until we add the two blocks.

# %%
YOLO = [f"yolo-nano-{kind}" for kind in ("stock", "convolutions", "mobile-mqa", "mha")]
chart(*YOLO)
for base in ("yolo-nano-stock", "yolo-nano-convolutions"):
    sentence("yolo-nano-mobile-mqa", base)

# %% [markdown]
# ## Question 3 · Is Mobile MQA as good as what it replaces?
#
# Mobile MQA shares keys and values among all heads, and halves their resolution at stride 8. The controls stand in the
# same places, in the same block, with heads of the same size: multi-head attention (nothing shared, nothing
# down-sampled) and multi-query attention (shared, not down-sampled). Mobile MQA also has a depthwise convolution and a
# norm before its keys.

# %%
chart("rtdetr-nano-mha", "rtdetr-nano-mqa", "rtdetr-nano-mobile-mqa", "yolo-nano-mha", "yolo-nano-mobile-mqa")
sentence("rtdetr-nano-mobile-mqa", "rtdetr-nano-mha")
sentence("rtdetr-nano-mobile-mqa", "rtdetr-nano-mqa")
sentence("yolo-nano-mobile-mqa", "yolo-nano-mha")

# %% [markdown]
# ## Question 4 · Does a wrong layer matter?
#
# The article's layer runs and fits. In the probe its defects can be switched on one at a time (`python -m mqa_lib
# probe` makes this table and adds what is missing):

# %%
Markdown(experiments.ablation_table(ablation))

# %% [markdown]
# And in the detectors, the article's layer against the correct layer in the same places:

# %%
chart("rtdetr-nano-article", "rtdetr-nano-article-corrected")
sentence("rtdetr-nano-article-corrected", "rtdetr-nano-article")

# %%
exercises.quiz("06-support")

# %% [markdown]
# ## Photographs
#
# Does it help on photographs? **This course cannot say it yet.** Its first comparison on BCCD, a public set of
# photographs of blood cells, is withdrawn: the models had 30 queries, fewer than the cells that mosaic augmentation
# can put into one picture. `python -m mqa_lib compare data/experiments/bccd.yaml` runs it with enough queries.

# %%
exercises.quiz("06-photographs")

# %% [markdown]
# ## Pictures of your own
#
# Put the path of your data set into `MINE`, or, on Colab, run the cell as it is and choose a zip file. It is checked
# and drawn, and every file with a fault is named before the training starts.

# %%
MINE, TRAIN, ON_COLAB = "", False, "google.colab" in sys.modules
if ON_COLAB and not MINE:
    from google.colab import files

    for uploaded in files.upload():
        MINE = f"mine/{Path(uploaded).stem}"
        shutil.unpack_archive(uploaded, MINE)
if MINE:
    mine = inspect.inspect(MINE, tempfile.mkdtemp(prefix="mine-"))
    print(mine)
    if mine.pictures:
        plots.show(contact_sheet.sheet(mine), contact_sheet.alt(mine))
else:
    print("No set was named. In a terminal: python -m mqa_lib data check PATH --sheet sheet.png")

# %% [markdown]
# Are the boxes where they should be? Then set `TRAIN` to true and run both cells: two small detectors learn your
# classes from scratch, one after the other. A cell that was stopped continues when you run it again.

# %%
for name in ("rtdetr-nano-stock", "rtdetr-nano-mobile-mqa") if MINE and TRAIN else ():
    own = train.Recipe(name, 0, epochs=60, imgsz=320, batch=8, keeps_pairs=False)
    made = train.train(own, MINE, f"runs/{Path(MINE).stem}-{name}", one_bar=True)
    display(Markdown(experiments.table([made])), Markdown(experiments.class_table([made])))

# %% [markdown]
# ## What you know now
#
# - A flat line at chance says nothing. Train until the curves have risen and are flat again, or say within how many
#   pictures.
# - RT-DETR already has long-range attention: in its decoder. Add more, and test whether it helps.
# - Every question needs its control: without attention, with convolutions in its place, with multi-head attention.
# - An intervention shows what an answer depends on. A map shows only what is read.
# - One seed is an observation. Three seeds that agree are a start.
#
# Next: [`07_measure_and_deploy`](07_measure_and_deploy.ipynb), on what the layer costs.

# %% tags=["result"]
print(
    f"colour accuracy of the bundled detector {left['nothing']:.1%}, without its backbone's attention "
    f"{left['backbone attention']:.1%}; runs recorded: {len(records)}; rows of the ablation: {len(ablation)}"
)
