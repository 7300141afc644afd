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
# # 2 · Where does the formula come from, and what does each step save?
#
# You know what a convolution does: every pixel reads its neighbours, with weights that are the same everywhere.
# Attention lets every pixel read *all* pixels, with weights that it works out from what it sees. That is powerful
# and costly. This notebook builds attention from a dot product, makes it cheaper in two steps, and arrives at Mobile
# MQA.
#
# **What you need:** [notebook 1](01_see_it_first.ipynb) (a weight is a share of what is read; queries, keys, heads),
# matrix products, and convolutions with a stride.
#
# **What you will have:** the formula of Mobile MQA, term by term, with every shape; what each step saves in arithmetic,
# parameters and memory traffic; and what the "39 %" of the paper is a percentage of. No step is taken on trust: each
# prints its shapes and is compared with the layer itself, and MACs and parameters are computed twice, by formula and by
# counting.

# %% tags=["setup"]
# (the build puts notebooks/source/_setup.py here, the same in all seven)

# %%
import itertools
from pathlib import Path
import torch
from IPython.display import Markdown
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from mqa_lib import MobileMQA, MultiHeadAttention2d, cost, exercises, functional, labs, plots, rtdetr
from mqa_lib.datasets import keys_and_locks

# %% [markdown]
# The sizes below are those of a layer that is really in use: MobileNetV4-hybrid-medium attends over a map of
# 16 × 16 pixels and 160 channels, with 4 heads of 64 channels each. The words are explained when they are needed.

# %%
DIM, SIZE, NUM_HEADS, KEY_DIM, KV_STRIDE = 160, 16, 4, 64, 2
QUERY_CELL = (4, 3)
TOLERANCE = 1e-5  # float32, sums of at most a few hundred terms in another order
generator = torch.manual_seed(2404)

# %%
exercises.progress("02")

# %%
print(exercises.minutes("02"))

# %% [markdown]
# ## 1 · A map is a list of tokens
#
# Deep inside a network a picture is a *feature map* $X$ with $d$ channels (`dim`). We make one by hand, so that we
# know what is in it: a background and two patches far apart that are made of the same stuff. Every kind of stuff has
# a random signature of $d$ numbers, and every pixel adds noise of its own:

# %%
stuff = ("background", "stuff A", "stuff B")
kinds = torch.zeros(SIZE, SIZE, dtype=torch.long)
kinds[2:7, 1:6] = 1  # a patch of A at the top left
kinds[10:14, 10:15] = 1  # A again, at the bottom right
kinds[3:6, 10:14] = 2  # a patch of B
signatures = torch.randn(len(stuff), DIM)
x = (signatures[kinds] + 0.3 * torch.randn(SIZE, SIZE, DIM)).permute(2, 0, 1).unsqueeze(0)
print("map, batch × dim × height × width:", tuple(x.shape))

# %% [markdown]
# For attention the rows and columns do not matter. We write the pixels one under the other: a list of
# $n = 16 · 16$ *tokens*, each a row of $d$ numbers.

# %%
tokens = x.flatten(2).squeeze(0).T
n = len(tokens)
print("tokens, n × dim:", tuple(tokens.shape))

# %% [markdown]
# ## 2 · The dot product measures likeness
#
# One pixel asks: who here is like me? The dot product of two tokens is large when they point the same way, near zero
# when they have nothing to do with each other. We let the pixel in row 4, column 3 ask; it lies in the first patch.
#
# **Predict before you run:** which pixels will have a high score? Only its neighbours?

# %%
row, column = QUERY_CELL
asking = tokens[row * SIZE + column]
scores = tokens @ asking
print("scores of one query, n:", tuple(scores.shape))

# %% [markdown]
# We want to *read* from the alike pixels, and for that we need shares that are not negative and sum to 1. The softmax
# makes them: it raises e to each score and divides by the sum. Before that we divide the scores by a number, here
# $\sqrt{d}$; section 4 shows why that is needed.

# %%
weights = (scores / DIM**0.5).softmax(dim=0)
assert torch.isclose(weights.sum(), torch.tensor(1.0))
same = kinds.flatten() == 1
print(f"{weights[same].sum():.1%} of the weight lies on the {same.sum()} pixels of the same stuff")

# %% [markdown]
# Where do they lie? The square marks the pixel that asks:

# %%
on_grid = {
    "kind of stuff": kinds,
    "dot product": scores.unflatten(0, (SIZE, SIZE)),
    "weight after softmax": weights.unflatten(0, (SIZE, SIZE)),
}
drawn_maps = {title: values.numpy() for title, values in on_grid.items()}
plots.show(*plots.heat_maps(drawn_maps, QUERY_CELL, {"kind of stuff": stuff}))

# %% [markdown]
# The asking pixel is its own best match. Without it, is the far patch as bright as the near one?

# %%
others = same & (torch.arange(n) != row * SIZE + column)
near, far = (weights[half][others[half]].mean().item() for half in (slice(0, n // 2), slice(n // 2, n)))
print(f"mean weight of a pixel of stuff A: near patch {near:.4f}, far patch {far:.4f}")
assert abs(far / near - 1) < 0.5

# %% [markdown]
# About as bright: the distance plays no part. A 3 × 3 convolution at this pixel would have seen nothing of the far
# patch.

# %% [markdown]
# ## 3 · One head: a weighted mean of values
#
# With the shares the pixel takes a weighted mean of all tokens, and that is all that attention does. Noise averages
# away, what the alike pixels have in common stays:

# %%
mean_token = weights @ tokens
noise_before = (asking - signatures[1]).norm()
noise_after = (mean_token - signatures[1]).norm()
print(f"distance from the stuff's signature: {noise_before:.1f} before, {noise_after:.1f} after reading")
assert noise_after < noise_before

# %% [markdown]
# Nothing has been learnt so far. A network should decide for itself what counts as alike, and what is worth handing
# over. So each token is multiplied by three learnt matrices: $W^Q$ makes the *query* $q$ (what I look for), $W^K$ the
# *key* $k$ (what I can be found by), $W^V$ the *value* $v$ (what I hand over). Queries and keys must have the same
# number of channels, `key_dim` or $d_k$, for a dot product; values may have another, `value_dim` or $d_v$.
#
# On a map such a matrix is a 1 × 1 convolution. Here is one head with random matrices:

# %%
w_q, w_k, w_v = (torch.randn(KEY_DIM, DIM, 1, 1) / DIM**0.5 for _ in range(3))
# project is the 1 × 1 convolution; pixels into a list, channels last (.mT swaps the last two axes), one head
q, k, v = (functional.project(x, w).flatten(2).mT.unsqueeze(1) for w in (w_q, w_k, w_v))
one_head = functional.attend(q, k, v)
for name, each in (("q", q), ("k", k), ("v", v), ("read", one_head)):
    print(f"{name:4s} batch × heads × tokens × channels: {tuple(each.shape)}")

# %% [markdown]
# `functional.attend` does it all: scores, division, softmax, weighted mean. The same by hand:

# %%
by_hand = (q[0, 0] @ k[0, 0].T / KEY_DIM**0.5).softmax(dim=1) @ v[0, 0]
assert torch.allclose(one_head[0, 0], by_hand, atol=TOLERANCE)
print(f"largest difference: {(one_head[0, 0] - by_hand).abs().max():.1e}")

# %% [markdown]
# ### Exercise 02-head · implement · 6 min · ●●○
#
# Write that head yourself, for plain matrices: tokens (n, dim) and three matrices in, what the head reads (n,
# value_dim) out. Softmax is `scores.softmax(dim)`.


# %%
def head(tokens, w_q, w_k, w_v):
    raise NotImplementedError  # return (n, value_dim)


exercises.check("02-head", head)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Three products make q, k and v. The scores are `q @ k.T`: a row for each query, a column for each key.
# </details>
#
# <details><summary>Hint 2</summary>
#
# Divide by the square root of key_dim, which is `w_q.shape[1]`. Each row has to add up to 1, so the softmax runs along
# the last axis.
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def head(tokens, w_q, w_k, w_v):
#     q, k, v = tokens @ w_q, tokens @ w_k, tokens @ w_v
#     return (q @ k.T / w_q.shape[1] ** 0.5).softmax(-1) @ v
# ```
#
# Why. The last product is the one of exercise 01-read in notebook 1, with values in the place of colours. All else
# makes the weights.
# </details>

# %% [markdown]
# ## 4 · Why divide by √key_dim?
#
# Take queries and keys whose channels are independent with variance 1. Their dot product adds up `key_dim` such
# products, so its variance is `key_dim`: the more channels, the larger the scores. The softmax of large scores gives
# nearly everything to one key. The others hardly count, neither in the mean nor in the gradient.
#
# **Predict before you run:** at `key_dim` 256, what will the variance be without the division, and what with it?

# %%
key_dims = (4, 16, 64, 256)
ways = {"without scale": lambda size: 1.0, "divided by √key_dim": lambda size: size**0.5}
drawn = {size: torch.randn(500, size) @ torch.randn(n, size).T for size in key_dims}
variances = {
    name: [(drawn[size] / scale(size)).var().item() for size in key_dims] for name, scale in ways.items()
}
for name, values in variances.items():
    print(f"{name:20s}", ", ".join(f"{value:.2f}" for value in values))

# %% [markdown]
# The entropy says how evenly the weights are spread. Here it is divided by its largest value: 1 stands for equal
# weights, 0 for all weight on one key ([notebook 4](04_look_at_attention.ipynb) gives it in bits).


# %%
def evenness(scores: torch.Tensor) -> float:
    log_weights = scores.log_softmax(dim=-1)
    entropy = -(log_weights.exp() * log_weights).sum(dim=-1)
    return (entropy.mean() / torch.tensor(float(scores.shape[-1])).log()).item()


# %%
entropies = {name: [evenness(drawn[size] / scale(size)) for size in key_dims] for name, scale in ways.items()}
plots.show(*plots.scale_effect(key_dims, variances, entropies))
assert all(abs(value - 1) < 0.1 for value in variances["divided by √key_dim"])
assert all(
    abs(value / size - 1) < 0.1 for value, size in zip(variances["without scale"], key_dims, strict=True)
)

# %% [markdown]
# With the division the variance stays at 1 whatever `key_dim` is. A layer that divides by something else still runs,
# and every shape fits; [notebook 3](03_build_the_layer.ipynb) hunts such a bug.
#
# And the gradient: how many scores get one worth the name? The same random queries, random targets:

# %%
for name, scale in ways.items():
    loud = (drawn[256] / scale(256)).requires_grad_()
    (loud.softmax(-1) * torch.randn_like(loud)).sum().backward()
    none = (loud.grad.abs() < 1e-6).double().mean().item()
    print(f"{name:20s} scores with a gradient below 1e-6, at key_dim 256: {none:.0%}")
    assert (none > 0.9) == (name == "without scale")

# %% [markdown]
# Without the division only the key that is read already, and a rival or two, learn anything. Where else to look, the
# network is not told.

# %%
exercises.quiz("02-scale")

# %% [markdown]
# ## 5 · Many heads
#
# One softmax per pixel can look for one thing. *Multi-head attention* runs $h$ heads (`num_heads`) beside each other,
# each with matrices of its own, puts what they read side by side, and mixes it with an output matrix $W^O$ back to
# `dim` channels.
#
# **Predict before you run:** which shape have the weights of all heads? (How the axes are cut and swapped is a subject
# of notebook 3.)

# %%
multi_head = MultiHeadAttention2d(DIM, NUM_HEADS, KEY_DIM, KEY_DIM).eval()
layers = (multi_head.query, multi_head.key, multi_head.value)
all_q, all_k, all_v = (
    functional.project(x, each.weight).unflatten(1, (NUM_HEADS, -1)).flatten(-2).mT for each in layers
)
every_weight = functional.attention_weights(all_q, all_k)
print("q, k, v, batch × heads × tokens × channels:", *(tuple(each.shape) for each in (all_q, all_k, all_v)))
print("weights, batch × heads × queries × keys:", tuple(every_weight.shape))

# %% [markdown]
# The rest of the layer: read, put the heads side by side, mix. Our composition and the layer agree:

# %%
laid_out = functional.attend(all_q, all_k, all_v).mT.flatten(1, 2).unflatten(-1, (SIZE, SIZE))
ours = functional.project(laid_out, multi_head.output.weight)
assert torch.allclose(ours, multi_head(x), atol=TOLERANCE)
print(f"largest difference: {(ours - multi_head(x)).abs().max():.1e}")

# %% [markdown]
# What does it cost? We count in *MACs*, multiply-accumulates: one multiplication and the addition after it.
# `mqa_lib.cost` knows closed formulas and never runs a layer. The heart of them is short: a 1 × 1 convolution takes
# (tokens · channels in · channels out) MACs, the scores take (heads · queries · keys · `key_dim`), the weighted
# values the same with `value_dim`.

# %%
mha = cost.multi_head(DIM, SIZE, SIZE, NUM_HEADS, KEY_DIM, KEY_DIM)
assert mha.score_macs == NUM_HEADS * n * n * KEY_DIM
assert mha.params == sum(p.numel() for p in multi_head.parameters())
for kind, macs in mha.by_kind().items():
    print(f"{kind:16s} {macs:>12,} MACs")

# %% [markdown]
# ## 6 · First saving: all heads share one key and one value
#
# *Multi-query attention* (MQA) keeps the $h$ query heads, but gives them one common key and one common value. Every
# head still asks its own question; they only look things up in the same catalogue.
#
# It is a special case of what we had: multi-head attention in which all heads happen to have equal key matrices and
# equal value matrices. We tie them and compare:

# %%
# without a stride Mobile MQA is plain multi-query attention
multi_query = MobileMQA(DIM, num_heads=NUM_HEADS, key_dim=KEY_DIM, value_dim=KEY_DIM).eval()
tied = MultiHeadAttention2d(DIM, NUM_HEADS, KEY_DIM, KEY_DIM).eval()
with torch.no_grad():
    tied.query.weight.copy_(multi_query.query.proj.weight)
    tied.output.weight.copy_(multi_query.output.proj.weight)
    tied.key.weight.copy_(multi_query.key.proj.weight.repeat(NUM_HEADS, 1, 1, 1))
    tied.value.weight.copy_(multi_query.value.proj.weight.repeat(NUM_HEADS, 1, 1, 1))
    difference = (tied(x) - multi_query(x)).abs().max()
assert difference < TOLERANCE
print(f"largest difference between tied heads and one shared head: {difference:.1e}")

# %% [markdown]
# ### Exercise 02-share · predict · 2 min · ●○○
#
# A layer has 256 channels and 8 heads of 32 channels, so all four matrices of multi-head attention (queries, keys,
# values, output) have the same size. Now the heads share one key and one value. Which share of the parameters is left?

# %%
prediction = None
exercises.check("02-share", prediction)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# The query and the output matrix stay as they are. The key matrix makes one head's keys where it made 8.
# </details>
#
# <details><summary>Hint 2</summary>
#
# Four equal parts; two stay whole, of the other two an eighth is left.
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# prediction = (1 + 1 / 8 + 1 / 8 + 1) / 4
# ```
#
# Why. Each of the four matrices is a quarter. Two quarters stay, and two become a quarter of an eighth. However many
# heads share, more than half is left: the query and the output matrix set the limit.
# </details>

# %% [markdown]
# The same for the layer of this notebook, and not only for parameters (a number takes 4 bytes here). Which of these
# shrink, and by what factor?

# %%
mqa = cost.multi_query(DIM, SIZE, SIZE, NUM_HEADS, KEY_DIM, KEY_DIM)
assert mqa.params == sum(p.numel() for p in multi_query.parameters())
print(f"parameters            {mha.params:>12,} → {mqa.params:>12,}")
print(f"projections, MACs     {mha.projection_macs:>12,} → {mqa.projection_macs:>12,}")
print(f"scores, MACs          {mha.score_macs:>12,} → {mqa.score_macs:>12,}")
print(f"keys, values, bytes   {mha.key_value_bytes:>12,} → {mqa.key_value_bytes:>12,}")

# %% [markdown]
# The keys and values are smaller by the number of heads, and so are the matrices that make them. The scores are not
# touched: every head still compares every query with every key.

# %%
assert mha.key_value_bytes == NUM_HEADS * mqa.key_value_bytes
assert mha.score_macs == mqa.score_macs
assert mha.projection_macs - mqa.projection_macs == 2 * n * DIM * KEY_DIM * (NUM_HEADS - 1)

# %%
exercises.quiz("02-saved")

# %% [markdown]
# ### What does sharing do to the gradients?
#
# Forward, one key head equals several that are tied. Backward, the shared matrix hears from every head: its gradient
# is the *sum* of what the tied heads would each get. Autograd, on the two layers that we tied above:

# %%
target = torch.randn_like(x)
for each in (tied, multi_query):
    (each(x) * target).sum().backward()
by_head = tied.key.weight.grad.unflatten(0, (NUM_HEADS, KEY_DIM))
shared_gradient = multi_query.key.proj.weight.grad
apart = (by_head.sum(0) - shared_gradient).abs().max() / shared_gradient.abs().max()
print(f"sum over heads against the shared gradient, largest difference as a share: {apart:.1e}")
assert apart < 1e-4

# %% [markdown]
# **Predict before you run:** is the sum of $h$ gradients $h$ times as large as one of them? We measure over many random
# layers and targets:


# %%
def gradients_of_keys(heads: int) -> torch.Tensor:
    layer = MultiHeadAttention2d(DIM, heads, KEY_DIM, KEY_DIM)
    with torch.no_grad():
        layer.key.weight.copy_(layer.key.weight[:KEY_DIM].repeat(heads, 1, 1, 1))
    (layer(x) * torch.randn_like(x)).sum().backward()
    return layer.key.weight.grad.reshape(heads, -1)


each_head = torch.stack([gradients_of_keys(NUM_HEADS) for _ in range(30)])
growth = (each_head.sum(1).square().sum() / each_head.square().sum() * NUM_HEADS).sqrt().item()
print(f"shared against one head: {growth:.2f} times the size ({NUM_HEADS} heads)")
assert abs(growth / NUM_HEADS**0.5 - 1) < 0.3

# %% [markdown]
# Only the square root of $h$: at the start the heads pull in unrelated directions. The shared key moves on what the
# heads want *together*; where they disagree, their wishes cancel. How well they agree after training, random targets
# cannot say.

# %% [markdown]
# ## 7 · Second saving: fewer keys
#
# If neighbouring pixels of a feature map are alike, so are their keys and values, and a list with fewer of them says
# nearly the same. *Spatial reduction*, SR for short, down-samples the map before keys and values are made: a depthwise
# 3 × 3 convolution with stride `kv_stride` = 2. (Depthwise: each channel has a small filter of its own, so it is
# cheap.) The queries stay at full resolution, so the output keeps its size.

# %%
kernel = torch.full((DIM, 1, 3, 3), 1 / 9)
reduced = functional.spatial_reduction(x, kernel, KV_STRIDE)
m = reduced.shape[-2] * reduced.shape[-1]
print(f"X {tuple(x.shape)} → SR(X) {tuple(reduced.shape)}: m = {m} keys for n = {n} queries")

# %% [markdown]
# The circles show where the filters that make the keys are centred among the queries, on a smaller map of 10 × 10. At
# stride 4 the 3 × 3 filter steps over every fourth row, and its padding puts the first row of keys outside the map: one
# more reason why 2 is the stride that is used.

# %%
plots.show(*plots.key_centres(10, 10, (1, 2, 4)))
assert (cost.key_centre(0, 2), cost.key_centre(0, 4)) == (0, -1)

# %% [markdown]
# **Predict before you run:** by what factor does the score matrix shrink at stride 2? The number of *rows* stays.

# %%
mobile = cost.mobile_mqa(DIM, SIZE, SIZE, NUM_HEADS, KEY_DIM, KEY_DIM, kv_stride=KV_STRIDE)
print(f"score matrices: {cost.in_bytes(mqa.score_bytes)} → {cost.in_bytes(mobile.score_bytes)}")
print(f"down-sampling itself: {mobile.reduction_macs:,} MACs, {mobile.params - mqa.params:,} parameters more")
assert mqa.score_bytes == 4 * mobile.score_bytes
assert mqa.score_macs == 4 * mobile.score_macs

# %% [markdown]
# ### Are neighbours alike? Measured
#
# "If neighbouring pixels are alike" was an assumption. We can look at real maps: the small detector that is bundled
# with the course, trained on Keys & Locks, uses Mobile MQA on two maps, of 16 × 16 and of 8 × 8 pixels. What arrives
# there, on pictures that it was not trained on?


# %%
def arriving(network, pictures) -> dict[str, torch.Tensor]:
    blocks = [module for module in network.modules() if type(module).__name__ == "MobileMQABlock"]
    maps = []
    hooks = [block.register_forward_pre_hook(lambda _, given: maps.append(given[0])) for block in blocks]
    with torch.no_grad():
        network.eval()(pictures)
    for hook in hooks:
        hook.remove()
    return {f"{each.shape[2]} × {each.shape[3]}": each.detach() for each in maps}


# %% [markdown]
# Likeness is the cosine between two neighbours' channels, down and across, after the mean pixel is taken off each
# picture (otherwise what all have in common counts as likeness). It is 1 for equal:


# %%
def likeness(maps: torch.Tensor) -> float:
    centred = maps - maps.mean((2, 3), keepdim=True)
    across = torch.cosine_similarity(centred[..., 1:], centred[..., :-1], dim=1)
    down = torch.cosine_similarity(centred[..., 1:, :], centred[..., :-1, :], dim=1)
    return (across.mean().item() + down.mean().item()) / 2


# %% [markdown]
# Pixels drawn at random are somewhat alike, too, as many show the same background. So each map is also shuffled, as a
# control, and what counts is how far the neighbours lie above that:


# %%
def shuffle(maps: torch.Tensor) -> torch.Tensor:
    rows, columns = maps.shape[-2:]
    order = torch.randperm(rows * columns)
    return maps.flatten(2)[..., order].unflatten(-1, (rows, columns))


# %% [markdown]
# **Predict before you run:** where will neighbours be most alike: in the trained network's maps, in the maps of the
# same network with random weights, or in the picture itself? On the large map or on the small one?

# %%
scenes = list(keys_and_locks.stream(10_000, 32, "val", 128))
pictures = torch.stack([torch.from_numpy(picture).permute(2, 0, 1) for _, picture in scenes]) / 255
print("pictures, batch × colours × height × width:", tuple(pictures.shape))

# %%
weights_file = Path(plots.__file__).parents[2] / "data/weights/rtdetr-nano-mobile-mqa.safetensors"
detector = rtdetr.load_weights(weights_file).model
trained = arriving(detector, pictures)
untrained = arriving(rtdetr.load("rtdetr-nano-mobile-mqa").model, pictures)

# %%
maps = {f"trained, {at}": each for at, each in trained.items()}
maps |= {f"random weights, {at}": each for at, each in untrained.items()}
maps["the picture"] = pictures
found = {name: (likeness(each), likeness(shuffle(each))) for name, each in maps.items()}

# %%
rows = ["| map | neighbours | any two (shuffled) |", "|---|---|---|"]
rows += [f"| {name} | {near_by:.2f} | {anywhere:.2f} |" for name, (near_by, anywhere) in found.items()]
large, small, control = (
    found[name] for name in ("trained, 16 × 16", "trained, 8 × 8", "random weights, 16 × 16")
)
assert large[0] - large[1] > small[0] - small[1] > 0.1 and control[0] - control[1] > 0.1 and large[0] < 0.9
Markdown("\n".join(rows))

# %% [markdown]
# The assumption holds, with three limits:
#
# 1. On the large map neighbours are alike, on the small one less: there fewer pixels show one shape, and each stands
#    more for itself.
# 2. It takes no training. Smooth pictures and overlapping windows are enough.
# 3. Alike is not equal, and what differs is dropped. (The filter of SR is learnt and may choose what to keep; the
#    queries keep all.)
#
# So down-sampling is permitted where maps are large, and doubtful where they are small already. MobileNetV4 does the
# same: `kv_stride` is 2 on its second smallest maps and 1 on the smallest. Whether a task feels the loss has to be
# measured with the task: notebook 1's table has strides 1 and 2 side by side, and [notebook
# 4](04_look_at_attention.ipynb) counts what 4 loses. These are one detector's maps of drawn pictures; photographs were
# not measured here.

# %% [markdown]
# ### The three layers
#
# All three once more, drawn from the sizes of this notebook: queries blue, keys orange, values green. A box is as high
# as its number of tokens, and an arrow says which query head reads from which keys and values:

# %%
plots.show(*plots.wiring(DIM, SIZE, SIZE, NUM_HEADS, KEY_DIM, KV_STRIDE))

# %% [markdown]
# ## 8 · The formula
#
# Both savings together are Mobile MQA, equation 2 of the MobileNetV4 paper
# ([arXiv:2404.10518](https://arxiv.org/abs/2404.10518)):
#
# $$\mathrm{MobileMQA}(X) = \mathrm{Concat}(A_1, …, A_h)\,W^O, \qquad
# A_j = \mathrm{softmax}\!\left(\frac{(X W^{Q_j})\,(\mathrm{SR}(X)\,W^K)^{\top}}{\sqrt{d_k}}\right)\mathrm{SR}(X)\,W^V$$
#
# | symbol | meaning | here | in code |
# |---|---|---|---|
# | $X$ | the map, as $n$ tokens of $d$ channels | 256 × 160 | `x` |
# | $h$, $j$ | number of query heads, one of them | 4 | `num_heads` |
# | $d_k$ | channels of a query and of a key | 64 | `key_dim` |
# | $W^{Q_j}$ | makes the queries of head $j$; each head its own | 160 × 64 | `query.proj` |
# | $\mathrm{SR}$ | spatial reduction, $n$ tokens to $m$ | 256 → 64 | `key.down_conv`, `value.down_conv` |
# | $W^K$, $W^V$ | make the key and the value; **no** index $j$: shared | 160 × 64 each | `key.proj`, `value.proj` |
# | $A_j$ | what head $j$ reads | 256 × 64 | |
# | $W^O$ | mixes the heads back to $d$ channels | 256 × 160 | `output.proj` |
#
# Two things the equation does not say, and every implementation we know does: SR is done twice, with one filter for
# the keys and another for the values, and each is followed by a BatchNorm. Here is the layer. We let it see some
# random maps first, so that its norms hold statistics worth checking:

# %%
layer = MobileMQA(DIM, num_heads=NUM_HEADS, key_dim=KEY_DIM, value_dim=KEY_DIM, kv_stride=KV_STRIDE)
with torch.no_grad():
    layer(torch.randn(16, DIM, SIZE, SIZE) * 3 + 1)
layer.eval()
state = layer.state_dict()
assert (n, DIM, NUM_HEADS, KEY_DIM, m, NUM_HEADS * KEY_DIM) == (256, 160, 4, 64, 64, 256)  # as in the table
assert mobile.params == sum(p.numel() for p in layer.parameters())

# %% [markdown]
# Now each term of the equation is one line, and one shape. First the queries, $X W^{Q_j}$ for all $j$ at once:

# %%
queries = functional.project(x, state["query.proj.weight"]).unflatten(1, (NUM_HEADS, -1)).flatten(-2).mT
print("X W^Q, batch × heads × n × key_dim:", tuple(queries.shape))

# %% [markdown]
# Then $\mathrm{SR}(X)$ for the keys and for the values, each with its norm, and the shared projections:

# %%
shared = {}
for name in ("key", "value"):
    fewer = functional.spatial_reduction(x, state[f"{name}.down_conv.weight"], KV_STRIDE)
    normed = functional.normalise(fewer, state, f"{name}.norm", eps=1e-5)
    shared[name] = functional.project(normed, state[f"{name}.proj.weight"]).flatten(-2).mT.unsqueeze(1)
    print(f"SR(X) W, {name}, batch × 1 × m × channels:", tuple(shared[name].shape))

# %% [markdown]
# The softmax of the scaled scores, a row for each query of each head, and the weighted means $A_1$ to $A_h$:

# %%
softmax = functional.attention_weights(queries, shared["key"])
print("softmax, batch × heads × n × m:", tuple(softmax.shape))
heads = functional.attend(queries, shared["key"], shared["value"])
print("A, batch × heads × n × value_dim:", tuple(heads.shape))

# %% [markdown]
# Last, the heads side by side, laid out as a map again and mixed by $W^O$:

# %%
side_by_side = heads.mT.flatten(1, 2).unflatten(-1, (SIZE, SIZE))
composed = functional.project(side_by_side, state["output.proj.weight"])
print("Concat(A) W^O, batch × dim × height × width:", tuple(composed.shape))

# %% [markdown]
# Is that the layer? `MobileMQA.forward` takes another way: it calls a *fused kernel*, which does scores, softmax and
# mean in one pass and never writes the scores to memory. It must arrive at the same place:

# %%
with torch.no_grad():
    agreement = (composed - layer(x)).abs().max().item()
assert agreement < TOLERANCE
print(f"largest difference from MobileMQA.forward: {agreement:.1e}")

# %% [markdown]
# ## 9 · What does each step save?
#
# The whole way in one picture. Read it from top to bottom: sharing shortens the dark projections and divides the keys
# and values by the number of heads; spatial reduction shortens the scores and the weighted values. Then move a slider,
# with a guess first:
#
# - Which step saves more on a small map of 4 × 4, which on a large one of 80 × 80?
# - What does sharing save with a single head?
# - At 2048 channels and a map side of 20, as in the last stage of RT-DETR's ResNet-50 at 640 px: how much of the
#   cost is left in the projections?

# %%
labs.cost_lab()

# %% [markdown]
# Are the formulas right? PyTorch can count while a layer runs. It counts FLOPs, floating-point operations, and 1 MAC
# is 2 of them. (`SDPBackend.MATH` makes the layers take the way without a fused kernel, whose inside cannot be
# counted.)

# %%
counted = {}
steps = {"multi-head": mha, "multi-query": mqa, "Mobile MQA": mobile}
for name, each in zip(steps, (multi_head, multi_query, layer), strict=True):
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        each(x)
    counted[name] = counter.get_total_flops()
    print(f"{name:11s} counted {counted[name]:>11,} FLOPs, formula 2 · {steps[name].macs:>10,} MACs")
assert counted == {name: 2 * price.macs for name, price in steps.items()}

# %% [markdown]
# Not one operation is left over. So the formulas say what each step saves:


# %%
def percent_less(before: cost.Cost, after: cost.Cost) -> str:
    return f"{1 - after.macs / before.macs:.0%}"


Markdown(
    f"Sharing saves **{percent_less(mha, mqa)}** of multi-head attention's MACs and {1 - mqa.params / mha.params:.0%} "
    f"of its parameters. Spatial reduction saves **{percent_less(mqa, mobile)}** of what is left. Together: "
    f"**{percent_less(mha, mobile)}**, from {cost.in_thousands(mha.macs)} to {cost.in_thousands(mobile.macs)} MACs. "
    f"Down-sampling itself takes {mobile.reduction_macs / mobile.macs:.1%} of the MACs of Mobile MQA."
)

# %% [markdown]
# Some answers without a kernel. With a single head there is nobody to share with. On a map of 80 × 80, drawn here, the
# projections are nearly nothing; on one of 4 × 4 they are nearly everything:

# %%
small, large, wide = labs.lab_costs(size=4), labs.lab_costs(size=80), labs.lab_costs(size=20, dim=2048)
plots.show(*plots.cost_bars(large))
assert all(each.projection_macs > 0.8 * each.macs for each in small.values())
assert all(each.projection_macs < 0.1 * each.macs for each in large.values())

# %%
for title, costs in (("4 × 4", small), ("80 × 80", large)):
    first, second, third = costs.values()
    print(
        f"{title:8s} sharing saves {percent_less(first, second)}, "
        f"spatial reduction {percent_less(second, third)} of the rest"
    )
assert (
    small["multi-query"].macs / small["multi-head"].macs
    < large["multi-query"].macs / large["multi-head"].macs
)

# %%
projections = wide["Mobile MQA"].projection_macs / wide["Mobile MQA"].macs
print(f"2048 channels on 20 × 20: {projections:.0%} of Mobile MQA's MACs are left in the projections")

# %% [markdown]
# ### Exercise 02-crossing · investigate · 5 min · ●●○
#
# On the small map the projections are nearly all of the cost, on the large one the scores and weighted values are. From
# which map side on do the scores and weighted values of Mobile MQA together take *more* MACs than its projections? 256
# channels, 4 heads of 64, `kv_stride` 2; the sides are 4, 8, 10, 16, 20, 32, 40, 64 and 80.

# %%
answer = None
exercises.check("02-crossing", answer)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# The lab above shows it: set the channels, then move the map side and compare the bars of Mobile MQA.
# </details>
#
# <details><summary>Hint 2</summary>
#
# Or compute: `cost.mobile_mqa(256, side, side, 4, 64, 64, kv_stride=2)` has `score_macs`, `value_macs` and
# `projection_macs`.
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# sides = (4, 8, 10, 16, 20, 32, 40, 64, 80)
# prices = {side: cost.mobile_mqa(256, side, side, 4, 64, 64, kv_stride=2) for side in sides}
# answer = min(side for side, price in prices.items() if price.score_macs + price.value_macs > price.projection_macs)
# ```
#
# Why. Projections grow with the number of tokens n, scores with n · m. Down-sampling divides m by four, so the crossing
# comes at four times as many tokens, or twice the side. Far below it sharing is the step that saves most, far above
# it down-sampling is.
# </details>

# %% [markdown]
# ## 10 · MACs and bytes: the roofline
#
# A processor can multiply, and it can fetch numbers from memory. It does both at once, so a step takes as long as the
# slower of the two: `max(MACs / MACs per second, bytes / bytes per second)`. That is the *roofline* model, which the
# MobileNetV4 paper uses. A machine's *ridge point* is the number of MACs for each byte at which both take equally long.
# A layer with fewer MACs per byte waits for memory (*memory-bound*), and saving arithmetic does not help it; one with
# more waits for arithmetic (*compute-bound*).
#
# The bytes of our three layers, at one byte a number (int8): weights and maps, counted once for each step that reads or
# writes them. With a fused kernel the scores are not among them:

# %%
in_int8 = cost.side_by_side(DIM, SIZE, SIZE, NUM_HEADS, KEY_DIM, KV_STRIDE, bytes_per_number=1)
for name, price in in_int8.items():
    fused, written = (cost.in_bytes(price.bytes_moved(scores_in_memory=each)) for each in (False, True))
    print(f"{name:11s} {price.macs_per_byte:5.1f} MACs per byte; moved {fused}, with the scores {written}")
assert in_int8["Mobile MQA"].bytes_moved() > 0.95 * in_int8["multi-query"].bytes_moved()

# %% [markdown]
# Sharing takes away MACs and bytes. Down-sampling takes away MACs and, with a fused kernel, hardly any bytes: its two
# depthwise convolutions have to read the map once more each. The ridge points of some machines, as the paper and their
# makers publish them:

# %%
for name, device in cost.DEVICES.items():
    print(f"ridge point of {name:22s} {device.ridge(1):6.1f} MACs per byte (int8)")
assert max(price.macs_per_byte for price in in_int8.values()) < cost.DEVICES["NVIDIA T4"].ridge(1)

# %% [markdown]
# The slope is where memory sets the pace, the level part is where arithmetic does. A large mark is a layer, the small
# ones are its steps. Move the machine, the map and the batch, with a guess first: on which machine does the same layer
# wait for arithmetic? What do more pictures at once change, when they share the weights?

# %%
labs.roofline(size=SIZE, dim=DIM, num_heads=NUM_HEADS, key_dim=KEY_DIM, number_format=1)

# %% [markdown]
# On this machine all three wait for memory, so sharing makes the layer faster and down-sampling does not. And MACs and
# bytes are not seconds: [notebook 7](07_measure_and_deploy.ipynb) measures those, and shows where the savings do not
# arrive.

# %% [markdown]
# ## 11 · What is the "39 %" a percentage of?
#
# **A word before the first timing of the course.** Two times can be compared when machine, input size and number format
# are the same, after warm-up, over many rounds in turn, with the spread beside the median; and when it is said what is
# timed: a layer, what a layer adds, or a whole model. The paper's table has no spread.
#
# The paper's abstract speaks of a 39 % speed-up by Mobile MQA. Its Table 2 has the milliseconds behind it: a
# convolutional model on a Pixel 8's EdgeTPU, the same model with three multi-head attention blocks, and with three
# MQA blocks.

# %%
base_ms, multi_head_ms, multi_query_ms = 2.35, 2.76, 2.60  # Table 2, column Pixel 8 EdgeTPU
of_the_attention = 1 - (multi_query_ms - base_ms) / (multi_head_ms - base_ms)
of_the_model = 1 - multi_query_ms / multi_head_ms
more_than_none = multi_query_ms / base_ms - 1
print(f"{of_the_attention:.1%} less of what attention adds, {of_the_model:.1%} less for the whole model")
assert f"{of_the_attention:.1%}" == "39.0%"

# %% [markdown]
# What that means for somebody who waits for the model:

# %%
Markdown(
    f"So the 39 % compare *attention with attention*: the time that the blocks add to the model. The whole model gets "
    f"{of_the_model:.1%} faster than with multi-head attention, and stays {more_than_none:.1%} slower than without any "
    f"attention. And this is the step to shared keys and values; spatial reduction has a table of its own."
)

# %%
exercises.quiz("02-percent")

# %% [markdown]
# ### Can the paper's MACs be derived again?
#
# No. Table 2 prints 6.0 billion MACs without attention, 6.7 with multi-head and 6.5 with multi-query attention, and a
# gain of 28.6 %, again of what attention adds. The numbers are rounded, so the true percentage can be many:

# %%
half = 0.05  # of the last printed digit
corners = itertools.product((6.0 - half, 6.0 + half), (6.7 - half, 6.7 + half), (6.5 - half, 6.5 + half))
gains = [1 - (multi_query - none) / (multi_head_ - none) for none, multi_head_, multi_query in corners]
as_printed = 1 - (6.5 - 6.0) / (6.7 - 6.0)
print(f"as printed {as_printed:.1%}; the rounding allows anything from {min(gains):.0%} to {max(gains):.0%}")
assert f"{as_printed:.1%}" == "28.6%"

# %% [markdown]
# Table 3 prints 1.285 and 1.245 billion for a model without and with down-sampled keys. MobileNetV4-hybrid-medium would
# fit, with 1.2 billion in the paper. It has four layers of the size of this notebook:

# %%
printed_saving = (1.285 - 1.245) * 1e9
counted_saving = 4 * (mqa.macs - mobile.macs)
print(
    f"printed: {cost.in_thousands(printed_saving)} MACs less, counted: {cost.in_thousands(counted_saving)} less"
)
assert counted_saving > 2 * printed_saving

# %% [markdown]
# Our formulas agree with what PyTorch counts, to the last operation. So the difference lies in what the tables do not
# say: perhaps another model, another picture size or another way to count. We leave it open, and claim neither figure.

# %% [markdown]
# ## What you know now
#
# - Attention is a weighted mean, and its weights are a softmax of dot products. Dividing by √key_dim keeps it from
#   giving everything to one key, and the gradient with it.
# - Sharing keys and values cuts parameters, projections and what must be read; the scores stay as they are. It equals
#   tied heads, and the shared matrix gets the sum of their gradients.
# - Down-sampling cuts the scores. It leans on neighbours being alike, which they are on large maps and less on small
#   ones.
# - MACs and bytes are two prices; the ridge point of a machine says which of them it makes you pay.
# - The 39 % compare what attention adds with what attention adds.
#
# Three questions to take along: if sharing keys costs so little, what are several heads still good for? Which of the
# two savings would you give up first on a map of 10 × 10? And what could go wrong in code whose shapes are all as
# printed above?
#
# Next: [notebook 3](03_build_the_layer.ipynb) builds the layer and hunts for what can go wrong. The
# [glossary](glossary.md) has every term and the names that others use for the same things. Written out term by term,
# the equation gives what the layer gives:

# %% tags=["result"]
print(
    f"From multi-head to Mobile MQA: {cost.in_thousands(mha.macs)} → {cost.in_thousands(mqa.macs)} → "
    f"{cost.in_thousands(mobile.macs)} MACs; formula and layer differ by {agreement:.0e}"
)
