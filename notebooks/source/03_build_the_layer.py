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
# a little, and the network is worse than it could be. **How would you know?**
#
# **What you need:** what a convolution is, and what queries, keys, values and heads are
# ([notebook 2](02_derive_the_formula.ipynb)).
#
# **What you will have:** the layer in a few lines of your own, each with its shape; three independent sources of the
# right answer; an eye for mistakes that raise no error, trained on a layer that was published and copied many times;
# and your layer's numbers in a network of other authors.

# %% tags=["setup"]
# (the build puts notebooks/source/_setup.py here, the same in all seven)

# %%
import textwrap
import timm
import torch
import torch.nn.functional as F
from IPython.display import Markdown
from timm.layers import MultiQueryAttention2d

from mqa_lib import MobileMQA, MobileMQABlock, exercises, fold, functional, labs, plots, published, transfer

# %% [markdown]
# The sizes of our layer, and how exact "equal" has to be:

# %%
SEED = 3
DIM, NUM_HEADS, KEY_DIM = 64, 4, 16
HEIGHT, WIDTH = 6, 10
EXACT = 1e-12  # float64, sums of at most a few hundred terms in another order

# %%
exercises.progress("03")

# %%
print(exercises.minutes("03"))

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
# ### Exercise 03-split · implement · 3 min · ●●○
#
# Write `split` for any number of heads. The first $d_k$ channels of `q_map` belong to head 0, the next to head 1.
# Until you write it, the check tells you what is asked; after that it names your mistake.


# %%
def split(q_map, num_heads):
    raise NotImplementedError  # return (batch, num_heads, height * width, key_dim)


exercises.check("03-split", split)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Do it in three steps: cut the channel axis into two, flatten the pixels, then look at what order the axes have.
# </details>
#
# <details><summary>Hint 2</summary>
#
# `unflatten(1, (a, b))` cuts axis 1; the heads come first. `.mT` is short for `.transpose(-2, -1)`.
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def split(q_map, num_heads):
#     return q_map.unflatten(1, (num_heads, -1)).flatten(-2).mT
# ```
#
# The channels are cut into (heads, key_dim), the pixels flattened, and the last two axes swapped, so that a token
# holds all channels of one pixel.
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
# would give nearly all weight to one key, as section 4 of [notebook 2](02_derive_the_formula.ipynb) measures.
#
# ### Exercise 03-scale · implement · 4 min · ●○○
#
# Write `weights(q, k)`: scores, scale, softmax. Which axis must add up to one?


# %%
def weights(q, k):
    raise NotImplementedError  # return (batch, heads, queries, keys)


exercises.check("03-scale", weights)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# All scores at once are one matrix product; which of the two has to be transposed?
# </details>
#
# <details><summary>Hint 2</summary>
#
# A score has `q.shape[-1]` terms. The softmax runs over the keys, which are the last axis.
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def weights(q, k):
#     return (q @ k.mT / q.shape[-1] ** 0.5).softmax(dim=-1)
# ```
#
# The single head of `k` is broadcast to all heads of `q`: that is all there is to sharing keys.
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
#
# ### Exercise 03-merge · implement · 3 min · ●○○
#
# Write `merge`. Forgetting the swap gives the right shape, too.


# %%
def merge(read, height, width):
    raise NotImplementedError  # return (batch, heads * value_dim, height, width)


exercises.check("03-merge", merge)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Write down the axes before and after, by name. Which of them change places?
# </details>
#
# <details><summary>Hint 2</summary>
#
# Swap the last two, so that the pixels stand last; join axes 1 and 2; cut the last.
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def merge(read, height, width):
#     return read.mT.flatten(1, 2).unflatten(-1, (height, width))
# ```
#
# It is `split` backwards. Joined without the swap, heads and pixels would become channels.
# </details>
#
# We go on with that solution:

# %%
read = attention @ v
merged = read.mT.flatten(1, 2).unflatten(-1, (HEIGHT, WIDTH))
output = F.conv2d(merged, matrices["output"])
print("read", tuple(read.shape), " merged", tuple(merged.shape), " output", tuple(output.shape))

# %% [markdown]
# That is the whole layer, in a few lines. The library's layer comes to the same result by another road (it folds the
# heads into the queries and lets PyTorch's fused kernel do the rest, which never writes the weights to memory):

# %%
own_error = (output - layer(x)).abs().max().item()
assert own_error < EXACT
Markdown(f"Largest difference of our own lines from `MobileMQA`: **{own_error:.0e}**.")

# %% [markdown]
# ### Exercise 03-layer · implement · 6 min · ●●●
#
# Now all of it in one function, for any number of heads and a map that is not square. `matrices` holds the four 1×1
# convolutions by name, as above. The check knows what the layer of section 8 would give, whole and in parts, and tells
# you if you built it by accident.


# %%
def mobile_mqa(x, matrices, num_heads):
    raise NotImplementedError  # return a map of the size of x


exercises.check("03-layer", mobile_mqa)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Three `F.conv2d`, a cut for queries and (with one head) for keys and values, the weights, one matrix product, the way
# back, one last `F.conv2d`.
# </details>
#
# <details><summary>Hint 2</summary>
#
# If `split`, `weights` and `merge` are yours by now, call them; `x.shape[2:]` holds height and width.
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def mobile_mqa(x, matrices, num_heads):
#     heads = {"query": num_heads, "key": 1, "value": 1}
#     q, k, v = (split(F.conv2d(x, matrices[name]), heads[name]) for name in heads)
#     return F.conv2d(merge(weights(q, k) @ v, *x.shape[2:]), matrices["output"])
# ```
#
# Nothing in it knows whether the map is square, and nothing has to.
# </details>
#
# ## 6 · Fewer keys, and sizes that are odd
#
# Mobile MQA makes keys and values from a smaller map: a 3×3 depthwise convolution with a stride (`kv_stride`), and a
# BatchNorm after it, stand before the two projections. Queries stay as they are, and so does the output's size.
#
# ### Exercise 03-keys · predict · 2 min · ●○○
#
# How many keys does a map of 15 × 21 pixels have with `kv_stride=2`?

# %%
prediction = None  # a number


exercises.check("03-keys", prediction)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# The convolution is padded by one pixel, so its first window is centred on row 0. On which row is the second?
# </details>
#
# <details><summary>Hint 2</summary>
#
# Count rows 0, 2, 4 and so on as long as they exist, do the same for columns, and multiply.
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# prediction = -(-15 // 2) * -(-21 // 2)
# ```
#
# Each side is halved and rounded *up*.
# </details>
#
# An odd side does not lose its last row: the convolution is padded by one pixel and looks at rows 0, 2, 4 and so on.
# A layer must also take maps on which nothing divides evenly, down to a single pixel. We try:

# %%
reduced = MobileMQA(DIM, num_heads=NUM_HEADS, key_dim=KEY_DIM, value_dim=24, kv_stride=2).double().eval()
for size in ((15, 21), (16, 22), (7, 1), (1, 1)):
    odd = torch.randn(1, DIM, *size, dtype=torch.float64)
    keys = reduced.weights(odd).shape[-1]
    print(f"map {size[0]:2} × {size[1]:2}   keys {keys:3}   output", tuple(reduced(odd).shape[2:]))

# %% [markdown]
# Now all of it at once, from a run of the real layer. A box is as large as its array has numbers; the table beneath
# lists every operation with its shape, parameters, MACs and bytes. Before you move a slider, say what should change:
#
# 1. Double the heads. Which boxes grow, and which do not, because all heads share them?
# 2. Raise `kv_stride` from 1 to 2. What becomes a quarter? (Try odd sides, too.)
# 3. So far the pixels of one channel lie side by side in memory (the table calls it contiguous). Set the memory format
#    to `channels_last`, where the channels of one pixel do. Which copies go?

# %%
labs.shape_tracer(height=25, width=13)

# %% [markdown]
# A question before we test anything:

# %%
exercises.quiz("03-agree")

# %% [markdown]
# ## 7 · How do I know that it is right?
#
# An *oracle* is a second source of the right answer that does not share code with the first. We ask three:
#
# - **the specification**: the formula written as `einsum`, slowly, with every axis named (`mqa_lib.functional`);
# - **timm**, a library of other authors, whose layer takes our weights because ours has the same parameter names. Its
#   output and its gradient make two tests, so there are four in all;
# - **an identity**: with no stride, attention knows no places. If the pixels change places, the output must change
#   places along with them and nothing else.
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
# And the identity, which needs no second implementation: a layer without stride, once on the map and once on the map
# with its pixels in another order. (The gradient follows in section 9.)

# %%
order = torch.randperm(HEIGHT * WIDTH)
moved = layer(x.flatten(2)[..., order].view_as(x)).flatten(2)
expected = layer(x).flatten(2)[..., order]
permutation_error = ((moved - expected).abs().max() / expected.std()).item()
assert max(spec_error, timm_error, permutation_error) < EXACT
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
assert abs(everything.correlation) < 0.1 and everything.largest > 1
Markdown(
    f"The correlation is **{abs(everything.correlation):.3f}**, up to its sign. The largest"
    f" difference is {everything.largest:.0f} standard deviations of the right output. The two have nothing in common"
    " but their shape."
)

# %% [markdown]
# ### Which mistake does how much?
#
# Ten mistakes, each switched on alone in a layer that is right otherwise. Some show only on certain maps, sizes or
# settings, so each has a measure that shows *it*. Beside it stands what the right layer gives (in float32, where 1e-6
# is nothing), and last the correlation of the whole output with the right one. Two mistakes need an option that this
# course does not use elsewhere: *strided queries*, pooled to fewer, with the output enlarged again.


# %%
def shown(proof):
    name, moved = published.names(proof.defect), proof.deviation
    wrong = textwrap.shorten(moved.error, 64, placeholder=" …") or f"{proof.wrong:.3g}"
    correlation = "" if moved.error else f"{moved.correlation:.3f}"
    cells = (name, published.WRONG[proof.defect], proof.shown_by, wrong, f"{proof.right:.3g}", correlation)
    return f"| {' | '.join(cells)} |"


proofs = published.evidence()
header = "| mistake | the layer… | what shows it | with it | without | correlation |"
Markdown("\n".join([header, "|---|---|---|---|---|---|", *map(shown, proofs)]))

# %% [markdown]
# Three layouts are wrong, each enough to lose the result; they are the `view` of section 3, made with the queries,
# with the values, and backwards with the output. The scale is a milder mistake, until there are more heads than
# channels in a head. Two show a correlation of 1.000: this call does not touch them. The last four stop with an error
# or change the size, but only for strided queries, for maps that are not square, or in another memory format.

# %%
Defect = published.Defect
silent = [published.names(p.defect) for p in proofs if p.deviation.correlation > 0.999]
lost = [published.names(p.defect) for p in proofs if abs(p.deviation.correlation) < 0.1]
assert (len(proofs), len(silent), len(lost)) == (10, 2, 3)
print(f"silent on this call: {', '.join(silent)};   nothing left of the output: {', '.join(lost)}")

# %% [markdown]
# The last one of the table is the nastiest. ultralytics, the library around RT-DETR in notebook 5, turns models to
# `channels_last` by itself when it predicts on an x86 CPU. (So says the source of version 8.4.190; we did not measure
# it.) A model that trained on a CPU can stop in its first prediction.
#
# **Early dropout** deserves a word. Dropout sets some *weights* to zero, so that a query cannot rely on one key; on
# average nothing changes. The article drops *scores*, before the softmax, and a score of zero is not "no attention": it
# is the score of a key that is neither like nor unlike the query. So the average moves, in training only.
#
# **The scale:** the article divides by $\sqrt{d_k / h}$, rounded down to whole numbers under the root, where
# $\sqrt{d_k}$ is right: `key_dim` is already the size of *one* head. Scores come out too large by about $\sqrt h$:

# %%
too_large = published.twin(layer, published.NONE).scale / published.twin(layer, Defect.SCALE).scale
assert abs(too_large - NUM_HEADS**0.5) < 1e-6
print(f"scores too large by {too_large:.2f} with {NUM_HEADS} heads of {KEY_DIM} channels")

# %% [markdown]
# ### Exercise 03-nan · investigate · 5 min · ●●○
#
# With some sizes this one mistake leaves no number at all: the output is NaN. Take heads of 6 channels (`key_dim=6`),
# only the scale wrong, and raise the number of heads. **With how many heads does the output first hold a NaN?**
# `published.PublishedMQA(DIM, num_heads=…, key_dim=6, defects=Defect.SCALE)` builds the layer, `square.float()` is a
# map to put through it, and `.isnan().any()` asks.

# %%
answer = None  # a number of heads


exercises.check("03-nan", answer)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Try every number of heads, not only powers of two, and look at the rule: `key_dim // num_heads` under a root.
# </details>
#
# <details><summary>Hint 2</summary>
#
# What is 6 // 6, and what is 6 // 7? What does dividing a score by it give?
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def broken(heads):
#     net = published.PublishedMQA(DIM, num_heads=heads, key_dim=6, defects=Defect.SCALE)
#     return net(square.float()).isnan().any().item()
#
#
# answer = next(heads for heads in range(1, 20) if broken(heads))
# ```
#
# As soon as there are more heads than channels in a head, the whole-number division gives zero, and a score divided by
# zero is endless or no number.
# </details>
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
    "query layout wrong": Defect.QUERY_LAYOUT,
    "value layout wrong": Defect.VALUE_LAYOUT,
    "output layout wrong": Defect.OUTPUT_LAYOUT,
    "all mistakes": published.ALL,
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
assert different["right"] == different["value layout wrong"] == 2
Markdown(
    f"The right layer leaves {different['right']} kinds of pixel; with the query layout wrong there are"
    f" {different['query layout wrong']}, with the output layout {different['output layout wrong']}, in the"
    f" article's layer, with all mistakes, {different['all mistakes']}."
)

# %% [markdown]
# With the query layout wrong the picture falls into stripes, because a "query" is a piece of a row. With the output
# layout wrong, what belongs to one pixel is spread over many.
#
# Look closely at *value layout*: the disc is where it was. Queries and keys are right, so equal pixels still read
# equal things. But the things they read are not values of any pixel, which is why the correlation in the table is
# near zero all the same. **One test is not enough**: this picture would have let that mistake through.
# Which would not?

# %%
exercises.quiz("03-tells")

# %% [markdown]
# Can training not repair all this? We suppose in part: a fixed scramble is a fixed linear map, and a network may learn
# around some of it. Notebook 1 trains the article's layer beside the right one and measures how far that goes.

# %% [markdown]
# ### The bug hunt
#
# Your turn. Ten suspects run and are wrong, each in one way; some of the ways are new. Choose a suspect, do
# experiments, read its numbers beside the right layer's, and name the mistake. A wrong name is answered with an
# experiment in which the two differ.
#
# The first picture shows a suspect whose outputs do not follow their pixels. A wrong query layout or a wrong output
# layout would do that. Which of the two makes the *weights* wrong as well? *Sum the rows* tells.

# %%
labs.bug_hunt()

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
# fail, and the article's layer fails all four. (0 is equality to the last digit: both layers hand the same numbers to
# PyTorch's attention there. The specification adds up in another order.)
#
# What these tests do *not* say is whether attention helps a detector, or at what cost. That is measured in notebooks 6
# and 7. They are also no judgement on the article's idea, which is MobileNetV4's and sound.

# %% [markdown]
# ## 10 · The same numbers, faster
#
# Sharing the keys has one more consequence, and our layer lives on it. A score is a dot product of a query's channels
# with a key. A 1×1 convolution gives dot products of a pixel's channels with a filter. So the scores of one picture
# *are a 1×1 convolution whose filters are its keys*, and reading is another whose filters are the values. Without
# sharing every head would need filters of its own.
#
# **Predict before you run:** how many channels does the score map have when there are 60 keys?

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
# ### Folding the norms
#
# For inference a layer can be *folded*: a trained BatchNorm multiplies and shifts each channel, and so does the
# convolution beside it, so the two become one. The block around our layer (notebook 5) begins with a norm, and there is
# a trap. The 3×3 convolution pads the *normalised* map with zeros; after folding it pads the raw one, where zero means
# something else. So the keys and values at the border need a shift of their own. `fold` gives it to them:

# %%
block = MobileMQABlock(DIM, NUM_HEADS, KEY_DIM, 2, 1.0).double()
for _ in range(20):
    block(torch.randn(4, DIM, HEIGHT, WIDTH, dtype=torch.float64) * 2 + 1)  # statistics worth folding
folded = fold.fold(block)
fold_error = (folded(x) - block.eval()(x)).abs().max().item()
left = sum(isinstance(part, torch.nn.BatchNorm2d) for part in folded.modules())
print(f"norms left: {left}; largest difference of the output: {fold_error:.0e}")

# %% [markdown]
# Now leave the shift out of the keys. Inside the map all keys then lack the same, so all scores of a query move by the
# same amount, and the softmax does not notice. Keys at the border lack something else. Choose before you run the next
# cell:

# %%
exercises.quiz("03-border")

# %% [markdown]
# A second folded block, its shift set to zero before it has run:

# %%
uncorrected = fold.fold(block)
with torch.no_grad():
    uncorrected.attn.key.shift.zero_()
    off = (uncorrected(x) - folded(x)).abs().amax((0, 1))
touched = (off > EXACT).float().mean().item()
assert fold_error < EXACT and left == 0 and touched == 1
print(f"pixels of the output that change: {touched:.0%}")

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
assert count == 8 and consumer_error < 1e-3
print(f"{count} layers replaced; largest difference of the logits: {consumer_error:.0e} of their spread")

# %% tags=["result"]
ours, theirs = max(verdict["Mobile MQA"].values()), min(verdict["the article's layer"].values())
assert ours < 1e-10 < 0.1 < theirs
print(
    f"Mobile MQA is within {ours:.0e} standard deviations of all oracles, the article's layer {theirs:.1f} or more"
    f" off; correlation of its output with the right one {abs(everything.correlation):.3f}"
)

# %% [markdown]
# ## What you know now
#
# - The layer is a few lines; the two reshapes are where it goes wrong, and shapes alone do not show it.
# - `view` and `reshape` follow the memory. Cut the axis you mean with `unflatten`, then transpose.
# - The scale is $\sqrt{d_k}$ of *one* head; dropout comes after the softmax.
# - Test with height ≠ width, with an odd size, in `channels_last`, with `value_dim` ≠ `key_dim`.
# - Four tests from three oracles: a slow specification, somebody else's implementation (its output and its gradient),
#   an identity. The identity fits any attention layer without strides or position codes, the other three any layer that
#   timm also has.
# - With shared keys, attention is two convolutions whose filters are the keys and the values. Folding a norm across a
#   padded convolution needs a correction at the border.
#
# Three questions to take along:
#
# 1. Which of the ten mistakes would your own project's tests find today?
# 2. The identity fails once positions are added to queries and keys. What could you permute instead?
# 3. A network was trained with wrong layouts and works. Do you mend the layer, and what happens to its weights?
#
# **Next:** [notebook 4](04_look_at_attention.ipynb) looks at what a trained layer attends to;
# [notebook 5](05_integrate_into_rtdetr.ipynb) puts it into RT-DETR.
