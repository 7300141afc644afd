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
# Notebook 5 put Mobile MQA into RT-DETR. A better model has to show it: on the same pictures, with the same
# schedule, from several seeds, and on pictures that did not choose anything. This notebook is that comparison.
#
# **What you need:** notebooks 1 and 5 (Keys & Locks; backbone, encoder with AIFI and decoder of RT-DETR). From
# notebook 3, the article's layer; from notebook 4, that a map of attention is not an explanation.
#
# **What you will have:** a comparison over seeds that you can cut in your own way, two detectors that you trained
# a stretch yourself, a look at what a right and a wrong answer read, and a sentence on what may be concluded.

# %% tags=["setup"]
# (the build puts notebooks/source/_setup.py here, the same in all seven)

# %%
import os, shutil, sys, tempfile  # noqa: E401
from pathlib import Path
import numpy as np, torch  # noqa: E401
from IPython.display import Markdown, display
from PIL import Image
from mqa_lib import contact_sheet, exercises, experiments, explorer, labs, plots, rtdetr
from mqa_lib.datasets import bccd, inspect, keys_and_locks, yolo
from mqa_lib.rtdetr import costs, evaluate, pretrain, train

# %%
MODE = os.environ.get("MQA_MODE", "quick")
HOME = Path(plots.__file__).parents[2]
DATA = HOME / "data/keys_and_locks/data.yaml"
RUNS = HOME / "data/runs"
NAMES = {"rtdetr-nano-stock": "stock", "rtdetr-nano-mobile-mqa": "with Mobile MQA"}
SEED, EPOCHS = 0, 8

# %%
exercises.progress("06")

# %%
print(exercises.minutes("06"))

# %% [markdown]
# ## The data
#
# You know the pictures from notebook 1, in a harder form: shapes lie anywhere, and a detector has to find them, too.
# A set in YOLO format (beside every picture a text file of its boxes) is checked before anything is trained on it, and
# a *contact sheet* shows what is in it. Look at the boxes: a lock's class is the colour of the key of its shape.

# %%
report = yolo.checked(DATA)
plots.show(contact_sheet.sheet(report, 2), contact_sheet.alt(report))

# %% [markdown]
# The classes are the whole design of the experiment. A `key` shows its colour and its class is just "key", so finding
# it needs no attention: it is the *control*. A lock looks alike in all four classes.
#
# ### Exercise 06-chance · predict · 1 min · ●○○
#
# A detector finds every lock and cannot see from a lock to its key. What share of the locks that it finds gets the
# right colour? Give a number from 0 to 1.

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
# The four colours are equally frequent, and the colours of a picture's locks do not depend on each other.
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# prediction = 1 / 4
# ```
#
# Whoever cannot see the key can only guess. Below, every detector is held to this level.
# </details>
#
# ## Two detectors, one difference
#
# *nano* is an RT-DETR so small that it trains on a CPU. `rtdetr-nano-stock` and `rtdetr-nano-mobile-mqa` differ by two
# blocks of Mobile MQA in the backbone, at strides 8 and 16, and in nothing else. RT-DETR's backbones are usually
# pretrained on other pictures, and so both were trained in two parts: first the backbone alone, *densely* (it names
# what lies in each cell of its maps: nothing, a key, or a lock of which colour), then the whole detector, by *epochs*,
# which are passes over the training pictures. A card beside each file of weights says so. It also says which seed was
# chosen: for both the one that is in the middle for the model with Mobile MQA.

# %%
models = {name: rtdetr.load(HOME / f"data/weights/{name}.safetensors") for name in NAMES}
for name, model in models.items():
    size = sum(p.numel() for p in model.model.parameters())
    print(f"{name}: {size:,} parameters. {model.card['weights_are']}. Chosen: {model.card['chosen']}.")

# %% [markdown]
# The one with Mobile MQA has more parameters. A better score could come from that alone: the comparison below has a
# third model to find out, with convolutions in place of the two blocks. As they are registered, for 80 classes:

# %%
BESIDE = ("rtdetr-nano-stock", "rtdetr-nano-mobile-mqa", "rtdetr-nano-convolutions")
sizes = {name: sum(p.numel() for p in rtdetr.load(name).model.parameters()) for name in BESIDE}
for name, size in sizes.items():
    print(f"{name}: {size:,} parameters")

# %% [markdown]
#
# Now both on 64 pictures that neither has seen, which come from another seed than those that they were trained on. The
# usual score of a detector is *mean average precision*. Let its boxes in one after the other, the surest first: which
# share of them is right (the precision), averaged on the way to finding all? Then take the mean over the classes, here
# five. For mAP50 a box is right if its class is and if it overlaps the true one by at least half; mAP50-95 is stricter
# and averages over overlaps from 0.50 to 0.95.

# %%
scores = {name: evaluate.evaluate(model, DATA) for name, model in models.items()}
Markdown(experiments.score_table({NAMES[name]: score for name, score in scores.items()}))

# %% [markdown]
# mAP mixes two questions: is the lock found, and is its class right? Take them apart: of all locks that a detector
# finds, whatever class it gives them, how many get the right colour?

# %%
colours = {name: evaluate.lock_colours(model, DATA) for name, model in models.items()}
for name, c in colours.items():
    print(
        f"{NAMES[name]:>16}: {c.found} of {c.locks} locks found, {c.share_right:.1%} of them in the right colour"
    )

# %% [markdown]
# ### Exercise 06-colours · implement · 6 min · ●●○
#
# That number decides everything below, so write it yourself. `right_colours(truth, named, found)` takes three tensors
# with an entry for every lock: its true class, the class that the detector named, and whether it found the lock at all.
# Return the share of the *found* locks whose class is right, as a tensor with one number.


# %%
def right_colours(truth, named, found):
    raise NotImplementedError  # return a tensor with one number


exercises.check("06-colours", right_colours)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# What is named at a lock that was not found means nothing: leave those locks out above *and* below the line.
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
# def right_colours(truth, named, found):
#     return (truth[found] == named[found]).double().mean()
# ```
#
# The division by the found locks is a choice. It asks "does it know the colour?" apart from "does it see the lock?"; a
# detector that finds only the easy locks can look good by it, which is why the number of found locks stands beside it.
# </details>
#
# ## What they answer
#
# The same four pictures, first the stock model. A dashed box with a cross before its name is a lock in the wrong
# colour; a lock without a box is one that the detector was not sure enough of. The title counts the locks that are
# drawn in the right colour.

# %%
pictures = sorted((DATA.parent / "images/val").glob("*.png"))
shown = [np.asarray(Image.open(picture)) for picture in pictures[:4]]
there = [evaluate.count_locks(picture) for picture in pictures[:4]]


def show_locks(name):
    boxes = [evaluate.lock_boxes(models[name], picture) for picture in pictures[:4]]
    right = [sum(good for *_, good in found) for found in boxes]
    titles = [f"{NAMES[name]}: {n} of {locks} right" for n, locks in zip(right, there, strict=True)]
    plots.show(plots.scenes(shown, boxes, titles), f"Locks found in four pictures. {'; '.join(titles)}.")


# %%
show_locks("rtdetr-nano-stock")

# %% [markdown]
# And its twin, on the same pictures:

# %%
show_locks("rtdetr-nano-mobile-mqa")

# %% [markdown]
# ## The comparison
#
# Two models from one seed prove little. So there is a *grid* of runs: every variant with three seeds. An *arm* is what
# sets runs apart beside variant and seed: `pretrained` backbones, or `from-scratch`. Within an arm all have the same
# pictures, the same number of them and the same schedule, which was tuned for none of them in particular.
#
# | variant | what it is |
# |---|---|
# | nano-stock | convolutions in the backbone, AIFI in the encoder |
# | nano-mobile-mqa | the same with a block of Mobile MQA at strides 8 and 16 of the backbone |
# | nano-mqa-encoder | stock, with one shared key/value head in AIFI's place, nothing down-sampled |
# | nano-no-encoder | stock without AIFI: does that attention bring colours? |
# | nano-convolutions | mobile-mqa with residual convolutions in place of its two blocks, and as many parameters |
# | nano-article | stock with the article's layer throughout the backbone, from stride 4 on |
# | nano-article-corrected | in the same places the right layer, with the norm, residual and layer scale of a block |
#
# The whole grid is one small file:

# %%
print((HOME / "data/experiments/keys-and-locks.yaml").read_text())

# %% [markdown]
# `python -m mqa_lib compare data/experiments/keys-and-locks.yaml` does it, goes on where it was stopped, and writes a
# record for every run. It takes a night. How much of it is done, by variant and arm:

# %%
GRID = HOME / "data/experiments/keys-and-locks.yaml"
records = experiments.read_runs(RUNS / "keys-and-locks", GRID)
for name, (done, of) in experiments.recorded(GRID, records).items():
    print(f"{name}: {done} of {of} seeds")
again = [
    f"{experiments.label(one)}, seed {one['recipe']['seed']}" for one in records if "resumed after" in one
]
commits = len({one["commit"] for one in records})
print(f"Recorded at {commits} commits of this project; stopped and resumed: {'; '.join(again) or 'none'}.")

# %% [markdown]
# And each run, with the scores of its best epoch on the *validation* pictures, which choose that epoch (by mAP50-95).
# The pictures are the detector's own, without those of the pretraining; the minutes hold both:

# %%
Markdown(experiments.table(records))

# %% [markdown]
# Minutes are those of one thread on a machine that others used as well, so they say how long you would have waited and
# not which model is faster. Choose a metric and an axis. A thin line is one seed, a thick one the median of a variant;
# pictures and CPU seconds begin with those of the backbone's own training.

# %%
labs.comparison(records, axis="epoch")

# %% [markdown]
# Before you read on, say what you see: which detectors name the colours, which stay at chance, and does any line still
# rise at its end? (With `key, mAP50` the lab shows the control.)
#
# Now the numbers that may be quoted: each run's best epoch, measured on test pictures that chose no epoch. For every
# variant the median and the range over its seeds, and the difference to stock *with the same seed*. The brackets hold a
# *bootstrap* interval: draw three of the three differences, the same one twice or thrice allowed, and take their mean;
# of all means that can come out, 95 % lie in the brackets. Three seeds rarely show how far others would lie, so it is
# too narrow: read the dots. First the arm with pretraining; the other, which saw far fewer pictures, has its turn
# below.

# %%
STOCK, OURS = "nano-stock, pretrained", "nano-mobile-mqa, pretrained"
pretrained = [record for record in records if record["experiment"]["arm"] == "pretrained"]
right = experiments.scores(pretrained, "right colours")
display(Markdown(experiments.summary_table(right, STOCK, "right colours")))
found = min(record["test"]["lock colours"]["found"] for record in pretrained)
print(
    f"{records[0]['data']['pictures']['test']} test pictures, {found:,} locks found or more. A share of so many wavers "
    f"by {np.sqrt(0.25 * 0.75 / found):.3f} at the level of chance, whatever the seed."
)

# %%
compared = experiments.paired(right, STOCK)
differences = {one.name: one.differences for one in compared}
intervals = {one.name: (one.low, one.high) for one in compared if len(one.differences) >= 3}
axes = ("share of found locks in the right colour", STOCK)
plots.show(
    plots.paired_dots(differences, intervals, *axes), plots.paired_dots_alt(differences, intervals, *axes)
)

# %% [markdown]
# `nano-no-encoder` shows why to read the dots: its interval leaves 0 out, and its seeds do not agree. Nor does it show
# that the attention of RT-DETR's encoder brings any colour: without it none is missing.
#
# Now look for `nano-convolutions`, a *control model* beside the control class: it has residual convolutions where
# `nano-mobile-mqa` has attention, and no fewer parameters. If parameters and depth were what brings the colours, its
# dots would lie beside those of Mobile MQA. The article's layer is attention as well, in more places, and asks another
# question: does any attention do? Above chance, that is what the finished detectors name:

# %%
TWINS = {
    "convolutions": "nano-convolutions",
    "the article's layer": "nano-article",
    "Mobile MQA": "nano-mobile-mqa",
}
above = {
    said: [share - 0.25 for share in right[f"{twin}, pretrained"].values()] for said, twin in TWINS.items()
}
for said, shares in above.items():
    print(f"{said:>20}: {min(shares):+.2f} to {max(shares):+.2f}")
assert max(above["convolutions"]) < min(above["Mobile MQA"]) / 4
assert max(above["the article's layer"]) < min(above["Mobile MQA"]) / 2
assert (
    intervals["nano-no-encoder, pretrained"][0] > 0 > min(differences["nano-no-encoder, pretrained"].values())
)
assert sizes["rtdetr-nano-convolutions"] >= sizes["rtdetr-nano-mobile-mqa"]

# %% [markdown]
# Of what the detector with Mobile MQA names above chance, the one with as many parameters in convolutions names less
# than a quarter, and the one with the article's layer less than half. So not any attention does. Which of its faults
# holds the article's layer back, these runs do not tell: the right layer in its places has a norm, a residual and a
# layer scale around it besides. What the differences to stock allow to say, and what they do not:

# %%
print(
    "\n".join(f"- {sentence}" for sentence in experiments.conclusion(compared, "right colours").splitlines())
)

# %% [markdown]
# And the stricter score of detectors, over keys and locks together:

# %%
Markdown(experiments.summary_table(experiments.scores(pretrained, "mAP50-95"), STOCK, "mAP50-95"))

# %% [markdown]
# And the control class. Keys need no look across, so here the variants should be alike. They nearly are; the article's
# layer finds keys a little worse with every seed:

# %%
keys = experiments.scores(pretrained, "key, mAP50")
display(Markdown(experiments.summary_table(keys, STOCK, "key, mAP50")))
assert all(keys["nano-article, pretrained"][seed] < keys[STOCK][seed] for seed in keys[STOCK])

# %% [markdown]
# Now a quiz, on what such tables can carry:

# %%
exercises.quiz("06-support")

# %% [markdown]
# ## What the start contributes
#
# Naming colours is what the backbones were pretrained to do, so one may know them before a single box is learnt. How
# far did each come? The share of the cells on locks, on the map of stride 16, whose colour it names rightly, a number
# for each seed. (Stock, mqa-encoder and no-encoder have one backbone.)

# %%
SAME = {"nano-mqa-encoder": "nano-stock", "nano-no-encoder": "nano-stock"}
reached = {}
for record in records:
    if history := record.get("pretraining", {}).get("history"):
        name = record["recipe"]["model"].removeprefix("rtdetr-")
        share = history[-1]["lock accuracy"]["16"]
        reached.setdefault(SAME.get(name, name), {})[record["recipe"]["seed"]] = f"{share:.0%}"
for name, by_seed in reached.items():
    print(f"{name:>22}: {', '.join(share for _, share in sorted(by_seed.items()))}")

# %% [markdown]
# Chance is a quarter. Could convolutions have got further? A cell sees a window of the picture, as in notebook 1: a
# gradient that starts at the cell tells how far it goes. Count the locks whose key has its middle in there:


# %%
def window(name, stride=16, size=384):
    picture, middle = torch.rand(1, 3, size, size, requires_grad=True), size // 2 + stride // 2
    y, seen, network = picture, None, rtdetr.load(name).model.eval()
    for row in network.model[: len(network.yaml["backbone"])]:
        y = row(y)
        seen = y if y.shape[-1] == size // stride else seen  # the last map of this stride
    seen[0, :, size // stride // 2, size // stride // 2].sum().backward()
    touched = picture.grad.abs().sum((0, 1, 2)).nonzero()
    return int(middle - touched.min()), int(touched.max() + 1 - middle)


# %%
crowd = [pair for index in range(500) for pair in keys_and_locks.draw_scene(0, index, "val").pairs]
for name in ("rtdetr-nano-stock", "rtdetr-nano-convolutions"):
    before, behind = window(name)
    cells = [[(at // 16 + 0.5) * 16 for at in (pair.lock.row, pair.lock.column)] for pair in crowd]
    away = [np.subtract((p.key.row, p.key.column), cell) for p, cell in zip(crowd, cells, strict=True)]
    near = np.mean([(-before <= d.min()) and (d.max() <= behind) for d in away])
    print(f"{name}: {before + behind} pixels wide, the key's middle is inside for {near:.0%} of the locks;")
    print(f"    naming those, and guessing the others, would be {near + (1 - near) / 4:.0%}")

# %% [markdown]
# So the convolutions of the control model see further than stock's, and for many more locks than they name the key was
# there to be seen. We suppose that this is hard to learn: a convolution has another weight for every place that a key
# may be at, while attention compares what lies there, wherever that is. No run here tests that.
#
# Compare the shares with those of the finished detectors above. Mobile MQA's detector names what its backbone knew. The
# other detectors name less than their backbones did, the control model with one seed no more than by guessing: training
# the detector was too short, or not made, to keep it. So that model shows what such a detector *names* after one and
# the same training, not all that its backbone could learn.
#
# Is it the layer, then, or is it the pretraining? The arm `from-scratch` trains stock and Mobile MQA on the same
# pictures with no pretraining at all, so it sees little more than a quarter as many:

# %%
scratch = [record for record in records if record["experiment"]["arm"] == "from-scratch"]
bare, base = experiments.scores(scratch, "right colours"), "nano-stock, from-scratch"
display(Markdown(experiments.summary_table(bare, base, "right colours")))
print(experiments.conclusion(experiments.paired(bare, base), "right colours"))
alone = bare["nano-mobile-mqa, from-scratch"].values()
assert sum(share > 0.25 + 5 * np.sqrt(0.25 * 0.75 / found) for share in alone) == 2 and max(alone) < 0.5

# %% [markdown]
# With two of three seeds Mobile MQA leaves chance without any pretraining, and with none it names half of the locks.
# The layer does not depend on the start for everything, then; whether a longer training from nothing would come as far
# is open.

# %% [markdown]
# ### Exercise 06-sooner · investigate · 8 min · ●●○
#
# How many pictures does the pretrained detector with Mobile MQA need, pretraining included, until it has named 90 % of
# the found locks rightly for the first time? Read it from the records: take the median over the seeds.
# `experiments.curves(records, "right colours", "pictures")` gives, by variant, a line of (pictures, share) for every
# seed.

# %%
answer = None

exercises.check("06-sooner", answer)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# The lines are under `"nano-mobile-mqa, pretrained"`; for each seed take the first point whose share is at least 0.9.
# </details>
#
# <details><summary>Hint 2</summary>
#
# `next(pictures for pictures, share in line if share >= 0.9)`, and `np.median` over the lines.
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# lines = experiments.curves(records, "right colours", "pictures")["nano-mobile-mqa, pretrained"]
# answer = np.median([next(pictures for pictures, share in line if share >= 0.9) for line in lines])
# ```
#
# Nearly all of these pictures were seen by the backbone alone, before the detector saw its first. Whoever draws the
# curve from the first epoch on hides them.
# </details>
#
# ## What a right and a wrong answer read
#
# Take a lock that the model with Mobile MQA names rightly and the stock model does not, the first one in the validation
# pictures:

# %%
SCENES = [keys_and_locks.draw_scene(0, index, "val") for index in range(len(pictures))]


def named_rightly(name, index):
    good = [box for box in evaluate.lock_boxes(models[name], pictures[index]) if box[-1]]
    return {
        number
        for number, pair in enumerate(SCENES[index].pairs)
        if any(b[0] <= pair.lock.column <= b[2] and b[1] <= pair.lock.row <= b[3] for b in good)
    }


# %%
chosen, number = next(
    (index, min(only))
    for index in range(len(pictures))
    if (only := named_rightly("rtdetr-nano-mobile-mqa", index) - named_rightly("rtdetr-nano-stock", index))
)
scene, pair = SCENES[chosen], SCENES[chosen].pairs[number]
print(f"picture {chosen}: the {pair.shape} lock at row {pair.lock.row}, column {pair.lock.column}")
print(f"its key lies at row {pair.key.row}, column {pair.key.column}")

# %% [markdown]
# What the first Mobile MQA reads at that lock, and what the only attention of the stock model's encoder (AIFI, on the
# coarsest map) reads there. As in notebook 4, the outlined square is the cell that asks, and its middle need not be the
# lock's:

# %%
photo = np.asarray(Image.open(pictures[chosen]))
seen = {name: explorer.look(model, photo, NAMES[name], size=128) for name, model in models.items()}
ours, aifi = seen["rtdetr-nano-mobile-mqa"].layers[0], seen["rtdetr-nano-stock"].layers[0]
at = ours.query_at(pair.lock.row, pair.lock.column)
plots.show(plots.explorer_figure(ours, at), plots.explorer_alt(ours, at))

# %%
coarse = aifi.query_at(pair.lock.row, pair.lock.column)
plots.show(plots.explorer_figure(aifi, coarse), plots.explorer_alt(aifi, coarse))

# %% [markdown]
# One key of AIFI is a square of 32 pixels, about a shape and a half: we suppose that this is too coarse to say *which*
# shape. A detector has a second attention, in its decoder, which reads a few points of its own choice (larger marks
# weigh more). Where the stock model's reads for the box that it draws around this lock; white is the box that a layer
# starts from, blue the last one:

# %%
points = seen["rtdetr-nano-stock"].points
boxes = [points.box(number) for number in range(len(points.labels))]
here = next(
    number
    for number, box in enumerate(boxes)
    if box.top <= pair.lock.row <= box.bottom and box.left <= pair.lock.column <= box.right
)
plots.show(plots.sampling_figure(points, here), plots.sampling_alt(points, here))

# %% [markdown]
# Those points lie in and around the box, and none goes to the key. That is a picture of one lock, and an observation,
# not a proof: that the colours are missing is shown by the table above. Look around by yourself; the right key is
# outlined. The view begins at another lock of this picture. From its maps alone, would you say that its colour is named
# rightly? (The four pictures above tell.)

# %%
twin, other = "rtdetr-nano-mobile-mqa", scene.pairs[(number + 1) % len(scene.pairs)].lock
start = ours.query_at(other.row, other.column)
view = explorer.show(seen[twin], query=start, pairs=scene.pairs, model=models[twin])

# %% [markdown]
# ## Train a stretch yourself
#
# Now take both trained backbones, forget everything behind them, and let both detectors learn again, on the 256 bundled
# pictures and with one seed. **Predict the four lines:** keys and locks, with and without Mobile MQA. Which two should
# lie together, which apart?

# %%
lines, chart = {}, plots.LivePicture()


def watch(name):
    def draw(now):
        for kind, share in (("keys", experiments.key_map50), ("locks", experiments.lock_map50)):
            points = [(epoch["epoch"], share(epoch)) for epoch in now["epochs"]]
            lines[f"{NAMES[name]}, {kind}"] = points
        drawn = {label: [points] for label, points in lines.items() if points}
        if drawn:
            chart.show(
                plots.seed_curves(drawn, "epoch", "mAP50"), plots.seed_curves_alt(drawn, "epoch", "mAP50")
            )

    return draw


# %%
def relearn(name):
    work = Path(tempfile.mkdtemp(prefix="stretch-"))  # a new one each time, so that the training is live
    start = rtdetr.as_checkpoint(pretrain.with_new_head(models[name], name, SEED), work / "start.pt")
    recipe = train.Recipe(name, SEED, EPOCHS)
    return train.train(
        recipe, DATA, work / "run", one_bar=True, after_epoch=watch(name), pretrained=str(start)
    )


stretches = {name: relearn(name) for name in NAMES}

# %% [markdown]
# Look at the keys first: they are the control. Where the two models lie apart there, both are still learning to *find*,
# and their lines for locks decide nothing. That is why the share of the *found* locks is what to ask for:

# %%
for name, stretch in stretches.items():
    share, told = experiments.right_colours(stretch["epochs"][-1]), stretch["epochs"][-1]["pictures"]
    print(f"{NAMES[name]:>16}: {share:.0%} of the found locks, after {told:,} pictures")
print(f"The runs of the grid saw {records[0]['epochs'][-1]['pictures']:,}, after their pretraining.")

# %% [markdown]
# ## Photographs: blood cells
#
# Keys & Locks was made so that looking far is necessary. Photographs are not. BCCD is a public set of photographs of
# blood with boxes around red cells, white cells and platelets (RBC, WBC and Platelets; MIT licence). A cell's
# neighbours should say little about it. Stock, Mobile MQA and the control model with convolutions were trained on it
# from nothing:

# %%
BLOOD = HOME / "data/experiments/bccd.yaml"
blood = experiments.read_runs(RUNS / "bccd", BLOOD)
for name, (done, of) in experiments.recorded(BLOOD, blood).items():
    print(f"{name}: {done} of {of} seeds")
print(f"Pictures: {', '.join(f'{split} {count}' for split, count in blood[0]['data']['pictures'].items())}.")

# %% [markdown]
# Before you run the next cell, predict: who wins, and by how much against whom? (On the test pictures.)

# %%
BASE, MQA, CONTROL = (f"nano-{kind}, from-scratch" for kind in ("stock", "mobile-mqa", "convolutions"))
on_blood = experiments.scores(blood, "mAP50-95")
Markdown(experiments.summary_table(on_blood, BASE, "mAP50-95"))

# %%
against = experiments.paired(on_blood, BASE)
differences = {one.name: one.differences for one in against}
intervals = {one.name: (one.low, one.high) for one in against}
plots.show(
    plots.paired_dots(differences, intervals, "mAP50-95", BASE),
    plots.paired_dots_alt(differences, intervals, "mAP50-95", BASE),
)

# %% [markdown]
# In words, and Mobile MQA against the control model as well:

# %%
rivals = experiments.paired({name: on_blood[name] for name in (MQA, CONTROL)}, CONTROL)
for sentence in experiments.conclusion([*against, *rivals], "mAP50-95").splitlines():
    print(f"- {sentence}")

# %% [markdown]
# And by class, as for any set:

# %%
Markdown(experiments.class_table(blood, "mAP50"))

# %% [markdown]
# At first three seeds of stock and Mobile MQA were all we had, and none spoke against Mobile MQA. Two more took that
# back: the medians are alike and the seeds do not agree. Convolutions in its place score more than Mobile MQA with four
# of five seeds, for less computing, and most of it on platelets, the small ones. Five seeds settle little, but nothing
# here speaks for attention: on these photographs Mobile MQA does not pay. All three detectors are small, start from
# nothing, see few pictures and are at an early stage of what such a set allows.

# %%
mean_of = {name: np.mean([*found.values()]) for name, found in on_blood.items()}
spent = {name: [] for name in on_blood}
for record in blood:
    spent[experiments.label(record)].append(experiments.cpu_seconds(record)[-1] / 60)
for name in on_blood:
    print(f"{name}: {mean_of[name]:.3f} in the mean, {np.median(spent[name]):.0f} CPU minutes a run")
assert np.median(spent[CONTROL]) < np.median(spent[MQA])
assert sum(d < 0 for d in rivals[0].differences.values()) == 4 and len(rivals[0].differences) == 5
assert min(differences[MQA].values()) < 0 < max(differences[MQA].values())

# %% [markdown]
# In full mode the next cell trains a detector of full size on BCCD, which wants a GPU. How long that takes nobody has
# measured yet; the line below is an estimate and says what it assumes.

# %%
LONG, PICTURES, PEAK_FLOPS, USED = 60, blood[0]["data"]["pictures"]["train"], 65e12, 0.15
rows = {row.name: row for row in costs.read(HOME / "data/benchmarks/rtdetr.json")}
flops = 3 * 1e9 * rows["rtdetr-l-mobile-mqa"].gflops  # forward, and about twice that backward
minutes = LONG * PICTURES * flops / (PEAK_FLOPS * USED) / 60
Markdown(
    f"Estimate: {minutes:.0f} minutes for {LONG} epochs of {PICTURES} pictures of 640 px, if a T4 reaches {USED:.0%} of"
    f" its {PEAK_FLOPS / 1e12:.0f} TFLOP/s in half precision. A batch of 4 should fit its 15 GB. Neither was measured."
)

# %%
if MODE == "full":
    set_of_blood = bccd.prepare("runs/data/bccd")
    big = train.Recipe("rtdetr-l-mobile-mqa", SEED, LONG, imgsz=640, batch=4, lr0=1e-4, keeps_pairs=False)
    trained = train.train(big, set_of_blood, "runs/bccd-l", one_bar=True, amp=True)
    print(
        evaluate.evaluate(rtdetr.load("runs/bccd-l/weights/best.pt"), set_of_blood, "test", 640)["mAP50-95"]
    )

# %% [markdown]
# ## Pictures of your own
#
# Put the path of your set into `MINE` (YOLO, VOC or COCO), or, on Colab, run the cell as it is and choose a zip. It is
# checked and drawn, and every file with a fault is named before any work is lost.

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
# Do the boxes lie where they should? Then set `TRAIN` to true and run both cells: the two small detectors learn your
# classes from nothing, one after the other. A cell that was stopped goes on when it is run again. (In a terminal:
# `python -m mqa_lib train rtdetr-nano-mobile-mqa --data PATH --imgsz 320 --augment`.) One seed is an observation; for a
# comparison take several, and a test split that chooses nothing.

# %%
for name in NAMES if MINE and TRAIN else ():
    own = train.Recipe(name, SEED, epochs=60, imgsz=320, batch=8, keeps_pairs=False)
    made = train.train(own, MINE, f"runs/{Path(MINE).stem}-{name}", one_bar=True)
    display(Markdown(experiments.table([made])), Markdown(experiments.class_table([made])))

# %% [markdown]
# ## What may be concluded
#
# On pictures that were made to need a look across, two blocks of Mobile MQA in a pretrained backbone let a small
# RT-DETR name colours that its twin without them guesses; with how many seeds, stands under the dots. As many
# parameters in convolutions do not do it, nor does the article's attention. That is a strong statement about *these*
# pictures, and the tables above bound it: they name the arms that were run, and they say nothing about larger models,
# longer schedules or COCO. On the blood cells, where nothing asks for a look across, Mobile MQA is not shown to be
# better than stock, and plain convolutions in its place did better with most seeds.

# %%
exercises.quiz("06-photographs")

# %% [markdown]
# ## What you know now
#
# - A comparison needs controls (a class that needs no look across, a model without the attention), a level (chance),
#   several seeds, one budget, and a test split.
# - mAP mixes finding and naming; take them apart.
# - What a backbone learnt before belongs to the comparison: train it alike, count its pictures, look at what it knew.
# - A difference is not its cause: what a block brings besides attention has to be tried without the attention.
# - Three seeds that agree may be three lucky ones; two more may take it back.
#
# Three questions to take along: which twin would show whether the average of the whole picture, without any choice of
# where to look, were enough? What would you measure on your own pictures to find out whether they need a look across at
# all? Why is a bootstrap interval over three seeds too narrow?
#
# Next: [`07_measure_and_deploy`](07_measure_and_deploy.ipynb), on what the layer costs.

# %% tags=["result"]
ours_now, stock_now = (experiments.scores(records, "right colours")[name].values() for name in (OURS, STOCK))
print(
    f"lock colours right on test pictures, median of seeds: Mobile MQA {np.median(list(ours_now)):.1%} "
    f"({len(ours_now)} seeds), stock {np.median(list(stock_now)):.1%} ({len(stock_now)}); "
    f"live on 64 pictures: {', '.join(f'{NAMES[name]} {c.share_right:.1%}' for name, c in colours.items())}"
)
