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
# # 3 · How do I build the layer so that it is right?
#
# Notebook 2 derived the formula of Mobile MQA. A formula is not yet a layer: between the two lie half a dozen
# reshapes, and most ways to get them wrong still give a result of the right shape. Nothing fails, the loss goes down
# a little, and the network is worse than it could be. This notebook
#
# 1. builds the layer in steps of one or two lines, each with its shape,
# 2. checks the result with four tests, whose answers come from three sources that do not share its code,
# 3. puts a layer on the stand that was published and copied many times, and proves each of its mistakes by a number,
# 4. makes the right one fast without changing a number, and puts it into a network of other authors.
#
# You need to know what a convolution is, and what queries, keys and values are (notebook 2). At the end you will
# have one test that fits any attention layer without strides or position codes, and three for any layer that timm
# also has.

# %% tags=["setup"]
# (the build puts notebooks/source/_setup.py here, the same in all seven)

# %%
import torch
import torch.nn.functional as F
from IPython.display import Markdown
import timm
from timm.layers import MultiQueryAttention2d

from mqa_lib import MobileMQA, MobileMQABlock, exercises, fold, functional, plots, published, transfer

# %% [markdown]
# The sizes of our layer, and how exact "equal" has to be:

# %%
SEED = 3
DIM, NUM_HEADS, KEY_DIM = 64, 4, 16
HEIGHT, WIDTH = 6, 10
EXACT = 1e-12  # float64, sums of at most a few hundred terms in another order

# %% [markdown]
# ## 1 · What goes in, what comes out
#
# A feature map enters: a tensor of shape (batch, $C$, $H$, $W$), with $C$ channels (`dim`) for each of the $H · W$
# pixels. A map of the same shape leaves, in which every pixel has read from all pixels. Height and width are
# different here on purpose: a square map hides mistakes. The numbers are float64, so that "equal" can mean twelve
# digits.

# %%
torch.manual_seed(SEED)
x = torch.randn(2, DIM, HEIGHT, WIDTH, dtype=torch.float64)
print("map x, (batch, C, H, W):", tuple(x.shape))

# %% [markdown]
# The weights are those of our library's layer, so that we can compare at the end. There are four matrices: one each
# to make queries, keys and values out of a pixel's channels, and one for the output. The layer has $h$ query heads
# (`num_heads`) of $d_k$ channels each (`key_dim`), and *one* head of keys and values which they share:

# %%
layer = MobileMQA(DIM, num_heads=NUM_HEADS, key_dim=KEY_DIM, value_dim=KEY_DIM).double().eval()
matrices = {name.split(".")[0]: weight.detach() for name, weight in layer.named_parameters()}
for name, weight in matrices.items():
    print(f"{name:7}", tuple(weight.shape))

# %% [markdown]
# The two ones at the end of each shape say that these are 1×1 convolutions: the same matrix for every pixel.
#
# ## 2 · Project
#
# The first step is therefore three convolutions, which give three maps. The query map has room for all heads:

# %%
q_map, k_map, v_map = (F.conv2d(x, matrices[name]) for name in ("query", "key", "value"))
for name, each in {"q_map": q_map, "k_map": k_map, "v_map": v_map}.items():
    print(name, tuple(each.shape))

# %% [markdown]
# ## 3 · Cut into heads and tokens
#
# Attention works on lists of *tokens*: one vector for each pixel and head. We need the shape
# (batch, $h$, $H · W$, $d_k$), and here most layers that are wrong go wrong. Let us look at a map so small that we
# can follow every number: one head, 4 channels, 8 pixels. A map lies in memory channel by channel, so the number of
# channel $c$ and pixel $p$ has the address $8c + p$.
#
# **Predict before you run:** token 0 must be made of four numbers. At which addresses do they lie?

# %%
addresses = torch.arange(4 * 8).view(1, 4, 2, 4)  # batch, channels, height, width
viewed = addresses.view(1, 8, 4)
transposed = addresses.flatten(2).transpose(1, 2)
print("token 0, by view:     ", viewed[0, 0].tolist())
print("token 0, by transpose:", transposed[0, 0].tolist())

# %% [markdown]
# Both tensors have the shape (1, 8, 4): eight tokens of four channels. `view` keeps the order of the memory and puts
# new walls between the numbers. Its token 0 holds *four neighbouring pixels of channel 0*, which is not a token of
# anything. Only the transpose collects the four channels of pixel 0. The picture shows for every number of the
# map which token it goes to:

# %%
owner = torch.arange(8)[:, None].expand(8, 4)
grids = {
    title: torch.empty(32, dtype=torch.long).scatter_(0, cut.flatten(), owner.flatten()).view(4, 8).numpy()
    for title, cut in {
        "right: a token is a pixel": transposed,
        "view: a token is a piece of a row": viewed,
    }.items()
}
fig, alt = plots.token_layout(grids)
plots.show(fig, alt)

# %% [markdown]
# A column of the left grid has one colour: a token is a pixel with all its channels. On the right a token takes half
# a row of pixels from one channel, and pixels 0 to 3 go to the same token.
#
# ### Your turn: cut the heads (3 minutes)
#
# Write `split` for any number of heads. The first $d_k$ channels of `q_map` belong to head 0, the next to head 1.
# Until you write it, the check tells you what is asked; after that it names your mistake.


# %%
def split(q_map, num_heads):
    raise NotImplementedError  # return (batch, num_heads, height * width, key_dim)


exercises.check("03-split", split)

# %% [markdown]
# <details><summary>One solution</summary>
#
# `q_map.unflatten(1, (num_heads, -1)).flatten(-2).mT`: cut the channels into (heads, key_dim), flatten the pixels,
# swap the last two axes. `.mT` is short for `.transpose(-2, -1)`.
# </details>
#
# What does the check say to the tempting one-liner, the `view` from above?

# %%
exercises.check(
    "03-split", lambda q_map, num_heads: q_map.reshape(2, num_heads, -1, q_map.shape[1] // num_heads)
)

# %% [markdown]
# We go on with the right cut. Keys and values have one head each, and the same cut serves them:

# %%
q = q_map.unflatten(1, (NUM_HEADS, -1)).flatten(-2).mT
k, v = (each.unflatten(1, (1, -1)).flatten(-2).mT for each in (k_map, v_map))
print("q", tuple(q.shape), " k", tuple(k.shape), " v", tuple(v.shape))

# %% [markdown]
# ## 4 · Score, scale, softmax
#
# The score of a query with a key is their dot product, divided by $\sqrt{d_k}$; otherwise a layer with larger heads
# would start out more one-sided, as section 4 of [notebook 2](02_derive_the_formula.ipynb) measures.
#
# ### Your turn: the weights (4 minutes)
#
# Write `weights(q, k)`: scores, scale, softmax. Which axis must add up to one?


# %%
def weights(q, k):
    raise NotImplementedError  # return (batch, heads, queries, keys)


exercises.check("03-scale", weights)

# %% [markdown]
# <details><summary>One solution</summary>
#
# `(q @ k.mT / q.shape[-1] ** 0.5).softmax(dim=-1)`. The single head of `k` is broadcast to all heads of `q`: that
# is all there is to sharing keys.
# </details>
#
# We go on with that solution:

# %%
attention = (q @ k.mT / KEY_DIM**0.5).softmax(dim=-1)
print("attention, (batch, h, queries, keys):", tuple(attention.shape))
print(f"weights of one query add up to {attention[0, 0, 0].sum():.6f}")

# %% [markdown]
# ## 5 · Read, merge, project
#
# Each query reads the values, weighted. Then the tokens have to become a map again, which is the cut backwards:
# *first* swap the last two axes, *then* join heads and channels, then cut the pixels into rows.

# %%
read = attention @ v
merged = read.mT.flatten(1, 2).unflatten(-1, (HEIGHT, WIDTH))
output = F.conv2d(merged, matrices["output"])
print("read", tuple(read.shape), " merged", tuple(merged.shape), " output", tuple(output.shape))

# %% [markdown]
# That is the whole layer, in seven lines. The library's layer comes to the same result by another road (it folds the
# heads into the queries and lets PyTorch's fused kernel do the rest, which never writes the weights to memory):

# %%
own_error = (output - layer(x)).abs().max().item()
assert own_error < EXACT
Markdown(f"Largest difference of our seven lines from `MobileMQA`: **{own_error:.0e}**.")

# %% [markdown]
# ### Your turn: the way back (3 minutes)
#
# Write `merge` yourself; forgetting the swap gives the right shape here too.


# %%
def merge(read, height, width):
    raise NotImplementedError  # return (batch, heads * value_dim, height, width)


exercises.check("03-merge", merge)

# %% [markdown]
# <details><summary>One solution</summary>
#
# `read.mT.flatten(1, 2).unflatten(-1, (height, width))`
# </details>
#
# ### Your turn: the whole layer (6 minutes)
#
# Now all of it in one function, for any number of heads and a map that is not square. `matrices` holds the four 1×1
# convolutions by name, as above. The check knows what the layer of section 8 would give, whole and in parts, and tells
# you if you built it by accident.


# %%
def mobile_mqa(x, matrices, num_heads):
    raise NotImplementedError  # return a map of the size of x


exercises.check("03-layer", mobile_mqa)

# %% [markdown]
# <details><summary>Hint</summary>
#
# Three `F.conv2d`, your `split` for queries and (with one head) for keys and values, your `weights`, one matrix
# product, your `merge`, one last `F.conv2d`.
# </details>
#
# <details><summary>One solution</summary>
#
# ```python
# q, k, v = (split(F.conv2d(x, matrices[n]), h) for n, h in (("query", num_heads), ("key", 1), ("value", 1)))
# return F.conv2d(merge(weights(q, k) @ v, *x.shape[2:]), matrices["output"])
# ```
# </details>
#
# ## 6 · Fewer keys, and sizes that are odd
#
# Mobile MQA makes keys and values from a smaller map: a 3×3 depthwise convolution with a stride (`kv_stride`), and a
# BatchNorm after it, stand before the two projections. Queries stay as they are, and so does the output's size.
#
# **Predict before you run:** how many keys does a map of 15 × 21 pixels have with `kv_stride=2`? Replace the dots.

# %%
exercises.check("03-keys", ...)

# %% [markdown]
# An odd side does not lose its last row: the convolution is padded by one pixel and looks at rows 0, 2, 4 and so on.
# A layer must also take maps on which nothing divides evenly, down to a single pixel. We try:

# %%
reduced = MobileMQA(DIM, num_heads=NUM_HEADS, key_dim=KEY_DIM, value_dim=24, kv_stride=2).double().eval()
for size in ((15, 21), (16, 22), (7, 1), (1, 1)):
    odd = torch.randn(1, DIM, *size, dtype=torch.float64)
    keys = reduced.weights(odd).shape[-1]
    print(f"map {size[0]:2} × {size[1]:2}   keys {keys:3}   output", tuple(reduced(odd).shape[2:]))

# %% [markdown]
# ## 7 · How do I know that it is right?
#
# "Our seven lines equal our library" proves little: both could share a misunderstanding. An *oracle* is a second
# source of the right answer that does not share code with the first. We ask three, timm twice, which makes four tests:
#
# - **the specification**: the formula written as `einsum`, slowly, with every axis named (`mqa_lib.functional`);
# - **timm**, a library of other authors, whose layer takes our weights because ours has the same parameter names;
# - **an identity**: with no stride, attention knows no places. If the pixels change places, the output must change
#   places along with them and nothing else.
#
# The last one fits any attention layer without strides or position codes. The first two need the same weights under
# the same names, so they fit any layer that timm also has and whose formula you write out.
#
# The specification first, for a layer with everything in it, a stride and values of another size than keys:

# %%
reduced_spec = functional.mobile_mqa(x, reduced.state_dict(), NUM_HEADS, kv_stride=2)
spec_error = ((reduced_spec - reduced(x)).abs().max() / reduced_spec.std()).item()
print(f"largest difference from the specification: {spec_error:.0e} standard deviations of the output")

# %% [markdown]
# Then timm, in one line to build it and one to load our weights:

# %%
reduced_timm = (
    MultiQueryAttention2d(DIM, num_heads=NUM_HEADS, key_dim=KEY_DIM, value_dim=24, kv_stride=2)
    .double()
    .eval()
)
reduced_timm.load_state_dict(reduced.state_dict())
timm_error = ((reduced_timm(x) - reduced(x)).abs().max() / reduced_spec.std()).item()
print(f"largest difference from timm's layer: {timm_error:.0e}")

# %% [markdown]
# Training needs gradients that are right too. We send the same signal back through both layers and compare what
# arrives at the first weights:

# %%
reduced_signal = torch.randn_like(reduced_spec)
grads = [
    torch.autograd.grad(net(x), net.query.proj.weight, reduced_signal)[0] for net in (reduced, reduced_timm)
]
gradient_error = ((grads[0] - grads[1]).abs().max() / grads[1].std()).item()
print(f"largest difference of the gradients: {gradient_error:.0e}")

# %% [markdown]
# And the identity, which needs no second implementation at all: a layer without stride, once on the map and once on
# the map with its pixels in another order.

# %%
order = torch.randperm(HEIGHT * WIDTH)
moved = layer(x.flatten(2)[..., order].view_as(x)).flatten(2)
expected = layer(x).flatten(2)[..., order]
permutation_error = ((moved - expected).abs().max() / expected.std()).item()

# %% [markdown]
# The largest of its errors, and a limit that all four tests have to keep:

# %%
assert max(spec_error, timm_error, gradient_error, permutation_error) < EXACT * 100
print(f"largest error after the pixels changed places: {permutation_error:.0e}")

# %% [markdown]
# ## 8 · The suspect
#
# An article that shows how to put Mobile MQA into RT-DETR prints a layer for it. The same code has been copied into
# several repositories. We rebuilt it, mistake for mistake, as `published.PublishedMQA`, in which every mistake is a
# switch. Its parameters have the shapes and names of ours, so it takes the *same weights*. A square map, since
# it stops on any other, goes through both:

# %%
square = torch.randn(2, DIM, 16, 16, dtype=torch.float64)
suspect = published.twin(layer, published.ALL)
right, wrong = layer(square).detach(), suspect(square).detach()
print("right", tuple(right.shape), " article", tuple(wrong.shape))

# %% [markdown]
# The shapes agree, and nothing was raised. Are these the same numbers, or at least similar ones?
#
# **Predict before you run:** the correlation of all output numbers with the right ones. 1 would be right, 0 would be
# no relation at all.

# %%
everything = published.deviation(layer, square)
assert abs(everything.correlation) < 0.1
Markdown(
    f"The correlation is **{everything.correlation:.3f}**. The largest difference is {everything.largest:.0f}"
    " standard deviations of the right output. The two have nothing in common but their shape."
)

# %% [markdown]
# ### Which mistake does how much?
#
# Ten mistakes, each switched on alone in a layer that is right otherwise. Some move every number, some bite only on a
# map, a size or a setting that hides them until then, so each has a measure that shows *it*; beside it stands what the
# right layer gives, and how far the whole output moves:


# %%
def shown(proof):
    name, moved = published.names(proof.defect), proof.deviation
    wrong = moved.error[:72] or f"{proof.wrong:.3g}"
    correlation = "" if moved.error else f"{moved.correlation:.3f}"
    cells = (name, published.WRONG[proof.defect], proof.shown_by, wrong, f"{proof.right:.3g}", correlation)
    return f"| {' | '.join(cells)} |"


proofs = published.evidence()
header = "| mistake | the layer… | what shows it | with it | without | correlation |"
Markdown("\n".join([header, "|---|---|---|---|---|---|", *map(shown, proofs)]))

# %% [markdown]
# Three layouts are wrong, each enough to lose the result; they are the `view` of section 3, made with the queries,
# with the values, and backwards with the output. The scale is a milder mistake, until there are more heads than
# channels in a head. Two show a correlation of 1.000: nothing on this call steps on them. The last four stop with an
# error or change the size, but only for strided queries, for maps that are not square, or in another memory format.

# %%
Defect = published.Defect
silent = [published.names(p.defect) for p in proofs if p.deviation.correlation > 0.999]
lost = [published.names(p.defect) for p in proofs if abs(p.deviation.correlation) < 0.1]
print(f"silent on this call: {', '.join(silent)};   nothing left of the output: {', '.join(lost)}")

# %% [markdown]
# The last one of the table is the nastiest. ultralytics turns a model to `channels_last` by itself, and its maps
# follow: when it trains on a GPU outside Windows (`engine/trainer.py`), and when it predicts on an x86 CPU under Linux
# or Windows (`nn/autobackend.py`). We read that in the source of version 8.4.190 and did not measure it. A model that
# trained on a CPU can stop in its first prediction.
#
# ### What the scale does
#
# The article divides by $\sqrt{d_k / h}$ where $\sqrt{d_k}$ is right: `key_dim` is already the size of *one* head.
# Scores come out too large by $\sqrt h$, so the softmax starts more one-sided. With more heads than channels in a
# head, the whole-number division gives zero, and dividing by it gives no number at all:

# %%
too_large = published.twin(layer, published.NONE).scale / published.twin(layer, Defect.SCALE).scale
broken = published.PublishedMQA(DIM, num_heads=8, key_dim=4, defects=Defect.SCALE)
lost = broken(square.float()).isnan().float().mean().item()
print(
    f"scores too large by {too_large:.2f} with {NUM_HEADS} heads; with 8 heads of 4, {lost:.0%} of the output is NaN"
)

# %% [markdown]
# ### What dropout does
#
# Dropout sets some *weights* to zero, so that a query cannot rely on one key; on average nothing changes. The
# article drops *scores*, before the softmax. A score of zero is not "no attention": it is the score of a key that is
# neither like nor unlike the query. So the average moves. We let 2,000 passes average out. That many still leave
# something to luck: the spread of the passes divided by $\sqrt{2000}$, printed last.

# %%
half = MobileMQA(DIM, num_heads=NUM_HEADS, key_dim=KEY_DIM, value_dim=KEY_DIM, attn_drop=0.5)
many = torch.randn(1, DIM, 3, 3).expand(2000, -1, -1, -1)
for where, defects in {
    "weights, after the softmax": published.NONE,
    "scores, before it": Defect.EARLY_DROPOUT,
}.items():
    net = published.twin(half, defects)
    still, passes = net(many[:1])[0], net.train()(many)
    shift = (passes.mean(0) - still).std() / still.std()
    luck = (passes.var(0).mean() / len(passes)).sqrt() / still.std()
    print(
        f"dropout on {where:27} moves the average by {shift.item():.1%} of the spread; luck: {luck.item():.1%}"
    )

# %% [markdown]
# After the softmax the average moves by about what luck explains (what 2,000 passes leave to it); before the softmax it
# moves by far more.
#
# ### What the layouts do to a picture
#
# Correlations are abstract, so here is a map with something in it: all pixels of a disc carry one feature vector, all
# others a second one. Attention treats equal pixels equally, so the output must have exactly two values, and the disc
# must be where it was. The picture shows how far each pixel's output is from that of the disc's centre:

# %%
rows, columns = torch.meshgrid(torch.arange(24.0), torch.arange(24.0), indexing="ij")
inside = (rows - 9) ** 2 + (columns - 14) ** 2 < 36
disc = torch.randn(2, DIM, dtype=torch.float64)[inside.long()].permute(2, 0, 1)[None]
kinds = disc[0].flatten(1).unique(dim=1).shape[1]
print(f"{inside.sum().item()} pixels in the disc, {kinds} different pixels in the map")

# %% [markdown]
# The map goes through the right layer, through three with one wrong layout each, and through the
# article's:

# %%
shown_defects = {
    "input": None,
    "right": published.NONE,
    "query layout": Defect.QUERY_LAYOUT,
    "value layout": Defect.VALUE_LAYOUT,
    "output layout": Defect.OUTPUT_LAYOUT,
    "the article: all": published.ALL,
}
maps = {}
for title, defects in shown_defects.items():
    features = disc if defects is None else published.twin(layer, defects)(disc).detach()
    distance = (features[0] - features[0, :, 9:10, 14:15]).norm(dim=0)
    maps[title] = (distance / distance.max()).numpy()

# %% [markdown]
# Dark is what came out like the centre of the disc:

# %%
fig, alt = plots.output_maps(maps, "distance from the centre's output, as a share of the largest")
plots.show(fig, alt)

# %% [markdown]
# How many kinds of pixel are there? We count the values, to six digits:

# %%
different = {title: len(torch.tensor(values).round(decimals=6).unique()) for title, values in maps.items()}
assert different["right"] == different["value layout"] == 2
Markdown(
    f"The right layer leaves {different['right']} kinds of pixel; with the query layout wrong there are"
    f" {different['query layout']}, with the output layout {different['output layout']}, with all mistakes"
    f" {different['the article: all']}."
)

# %% [markdown]
# With the query layout wrong the picture falls into stripes, because a "query" is a piece of a row. With the output
# layout wrong, what belongs to one pixel is spread over many.
#
# Look closely at *value layout*: the disc is where it was. Queries and keys are right, so equal pixels still read
# equal things. But the things they read are not values of any pixel, which is why the correlation in the table is
# near zero all the same. **One test is not enough**: this picture would have let that mistake through.
#
# Can training not repair all this? We suppose in part: a fixed scramble is a fixed linear map, and a network may learn
# around some of it. Notebook 1 trains the article's layer beside the right one and measures how far that goes.

# %% [markdown]
# ## 9 · The verdict in one picture
#
# Every test of section 7, put to our layer and to the article's. Both run at a plain setting that the article's
# layer can run at all (a square map, no stride, values as wide as keys), with the same weights, in float64. First the
# two oracles for this setting, and the gradient of a layer's first weights:

# %%
square_timm = (
    MultiQueryAttention2d(DIM, num_heads=NUM_HEADS, key_dim=KEY_DIM, value_dim=KEY_DIM).double().eval()
)
square_timm.load_state_dict(layer.state_dict())
square_spec = functional.mobile_mqa(square, layer.state_dict(), NUM_HEADS)
square_signal = torch.randn_like(square_spec)


def gradient(net):
    return torch.autograd.grad(net(square), net.query.proj.weight, square_signal)[0]


# %% [markdown]
# Then the four tests. `published.permutation_error` is what section 7 wrote out:


# %%
def errors(net):
    far = {"the specification": net(square) - square_spec, "timm's layer": net(square) - square_timm(square)}
    found = {name: (difference.abs().max() / square_spec.std()).item() for name, difference in far.items()}
    turned = gradient(square_timm)
    found["timm's gradient"] = ((gradient(net) - turned).abs().max() / turned.std()).item()
    found["pixels change places"] = published.permutation_error(net, square)
    return found


verdict = {"Mobile MQA": errors(layer), "the article's layer": errors(suspect)}
fig, alt = plots.oracle_errors(verdict, torch.finfo(torch.float64).eps)
plots.show(fig, alt)

# %% [markdown]
# This is how you know: four tests, from three oracles that share no code with the layer, and a gap of many powers of
# ten between a layer that is right and one that only has the right shape. A test is worth something only if it can
# fail, and the article's layer fails all four.
#
# What these tests do *not* say is whether attention helps a detector, or at what cost. That is measured in notebooks 6
# and 7. They are also no judgement on the article's idea, which is MobileNetV4's and sound.

# %% [markdown]
# ## 10 · The same numbers, faster
#
# Sharing the keys has one more consequence, and our layer lives on it. A score is a dot product of a query's channels
# with a key. A 1×1 convolution gives dot products of a pixel's channels with a filter. So the scores of one picture
# *are a 1×1 convolution whose filters are its keys*, and reading is another whose filters are the values. With keys of
# each head's own that would not go: every head would need filters of its own.
#
# **Predict before you run:** what shape does the score map have for a map of 6 × 10 pixels, 4 heads and 60 keys?

# %%
pixels = q[:1].transpose(1, 2).flatten(1, 2)  # heads side by side: 240 queries of 16 channels
as_map = pixels.mT[..., None]  # one column of pixels
score_map = F.conv2d(as_map, k[0, 0, :, :, None, None] / KEY_DIM**0.5)
read_map = F.conv2d(score_map.softmax(dim=1), v[0, 0].mT[..., None, None])
print("score map", tuple(score_map.shape), " read map", tuple(read_map.shape))

# %% [markdown]
# The same numbers as before, in another order of axes:

# %%
by_convolution = read_map[0, :, :, 0].mT.view(HEIGHT * WIDTH, NUM_HEADS, KEY_DIM).transpose(0, 1)
convolution_error = (by_convolution - read[0]).abs().max().item()
assert convolution_error < EXACT
print(f"largest difference from section 5: {convolution_error:.0e}")

# %% [markdown]
# On many CPUs PyTorch's convolutions run faster than the matrix products inside its fused attention, so `MobileMQA`
# takes this road there when a map is large enough, block by block, so that the scores never fill the memory
# (`mqa_lib.kernels`). How much that brings, and where nothing, is measured in
# [notebook 7](07_measure_and_deploy.ipynb).
#
# For inference a layer can be *folded*: a trained BatchNorm multiplies and shifts each channel, and so does the
# convolution beside it, so the two become one. One trap is left. The 3×3 convolution pads the *normalised* map with
# zeros; after folding it pads the raw one, where zero means something else. What a border pixel gets must be corrected,
# tap by tap. `fold` does that:

# %%
block = MobileMQABlock(DIM, NUM_HEADS, KEY_DIM, 2, 1.0).double()
for _ in range(20):
    block(torch.randn(4, DIM, HEIGHT, WIDTH, dtype=torch.float64) * 2 + 1)  # statistics worth folding
folded = fold.fold(block)
fold_error = (folded(x) - block.eval()(x)).abs().max().item()
left = sum(isinstance(part, torch.nn.BatchNorm2d) for part in folded.modules())
print(f"norms left: {left}; largest difference of the output: {fold_error:.0e}")

# %% [markdown]
# **Investigate (3 minutes):** set the correction to zero, `folded.attn.key.shift.zero_()`, run `folded(x)` again and
# find out which pixels of the output change. Why do *all* of them?
#
# <details><summary>Answer</summary>
#
# Only the keys at the border are wrong then. But every query reads every key, so the mistake reaches every pixel. A
# convolution would have kept it at the border, where one might have seen it.
# </details>

# %%
assert fold_error < EXACT and left == 0

# %% [markdown]
# ## 11 · In somebody else's network
#
# The last proof is a real consumer. timm has MobileNetV4 hybrids, whose authors placed Mobile MQA in the last two
# stages. We take every one of them out, put ours in with the same weights, and ask both networks about a picture. The
# weights are drawn, since nothing is downloaded here; with `pretrained=True` the same two lines carry trained ones.

# %%
network = timm.create_model("mobilenetv4_hybrid_medium", num_classes=10).eval()
photo = torch.randn(1, 3, 128, 128)
with torch.no_grad():
    theirs = network(photo)
    count = transfer.replace_in(network)
    consumer_error = ((network(photo) - theirs).abs().max() / theirs.std()).item()
print(f"{count} layers replaced; largest difference of the logits: {consumer_error:.0e} of their spread")

# %%
assert count == 8 and consumer_error < 1e-3

# %% tags=["result"]
ours, theirs = max(verdict["Mobile MQA"].values()), min(verdict["the article's layer"].values())
assert ours < 1e-10 < 0.1 < theirs
print(
    f"Mobile MQA is within {ours:.0e} of all oracles; the article's layer is {theirs:.1f} off or more,"
    f" its output correlates {everything.correlation:+.3f} with the right one"
)

# %% [markdown]
# ## What you know now
#
# - The layer is seven lines; the two reshapes are where it goes wrong, and shapes alone do not show it.
# - `view` and `reshape` follow the memory. Cut the axis you mean with `unflatten`, then transpose.
# - The scale is $\sqrt{d_k}$ of *one* head; dropout comes after the softmax.
# - Test with height ≠ width, with an odd size, in `channels_last`, with `value_dim` ≠ `key_dim`.
# - Four tests from three oracles: a slow specification, somebody else's implementation (its output and its gradient),
#   an identity. The identity fits any attention layer without strides or position codes, the other three any layer that
#   timm also has.
# - With shared keys, attention is two convolutions whose filters are the keys and the values. Folding a norm across a
#   padded convolution needs a correction at the border.
#
# **Next:** notebook 4 looks at what a trained layer attends to; notebook 5 puts it into RT-DETR.
