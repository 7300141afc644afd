"""The exercises and quizzes of notebook 5."""

import torch

from mqa_lib.exercises.core import Exercise, Quiz

CHANNELS = Exercise(
    task="How many channels does the 1×1 convolution in the last row of the tiny model file take in?",
    hint="it reads the row before it, a Concat; find the two rows that the Concat reads, and what each hands on.",
    right=24,
    mistakes={
        "this is what the row just before the Concat hands on; row 0 is stacked on it.": 16,
        "this is what row 0 hands on; row 2 is stacked on it.": 8,
        "this is what the convolution hands on; what it takes in is asked.": 4,
        "a picture has three; row 0 alone reads the picture.": 3,
        "the rows of every index up to the Concat are summed; it stacks only those that it names.": 40,
    },
    kind="predict",
    minutes=1,
    difficulty=1,
)

STARVED = Exercise(
    task="How many parameters does row 5 lack when the reader believes that it is handed 3 channels and not 2048?",
    hint="a 1×1 convolution without bias has (channels in) × (channels out) weights; what does not depend on the"
    " channels in, such as the norm behind it, is not lacking.",
    right=(2048 - 3) * 256,
    mistakes={
        "some weights are there, those of the 3 channels.": 2048 * 256,
        "this is all that the row should have; ask what it lacks.": 2048 * 256 + 2 * 256,
        "these are the weights that it has.": 3 * 256,
        "this is all that the row has.": 3 * 256 + 2 * 256,
        "these are the channels that it lacks; each of them has a weight for every channel handed on.": 2045,
        "the sign is turned: what should be there, less what is.": -2045 * 256,
        "this is what three rows lack together; one is asked.": (2048 + 1024 + 512 - 9) * 256,
    },
    kind="investigate",
    minutes=4,
    difficulty=2,
)

SIXTEEN = Exercise(
    task="How many times as much do the matrix products of one block cost at stride 4 as at stride 8?",
    hint="a stride half as long gives a map twice as high and twice as wide; every pixel is compared with every pixel.",
    right=16,
    mistakes={
        "this is the ratio of the pixels; every pixel is compared with every other, so it counts twice.": 4,
        "this is the ratio of the sides; there are two sides, and every pixel is compared with every other.": 2,
        "this counts the sides once too often; pixels go with the square of the side, pairs with the fourth power.": 64,
        "this is the cost of a block without attention; the products grow faster than the projections.": 1,
    },
    kind="predict",
    minutes=2,
    difficulty=2,
)

RENUMBER = Exercise(
    task="Write `renumber(sources, after)`: for the row numbers that the later rows of a model file read, return what"
    " they have to read once a block is put behind row `after`. Negative numbers count backwards and stay.",
    hint="a row behind the block has moved by one; who read row `after` should read the block; all before it stays.",
    right=lambda sources, after: torch.where(sources >= after, sources + 1, sources),
    mistakes={
        "who read row `after` still reads it, so the block is passed by: the file loads, it trains, and that map"
        " never sees the attention.": lambda sources, after: torch.where(
            sources > after, sources + 1, sources
        ),
        "all numbers have moved; the rows before the block stay where they are.": lambda sources, after: (
            torch.where(sources >= 0, sources + 1, sources)
        ),
        "negative numbers have moved; they count backwards from their own row.": lambda sources, after: (
            torch.where((sources >= after) | (sources < 0), sources + 1, sources)
        ),
        "every number has moved, negative ones too; before the block nothing moves, and -1 counts from its own row.": (
            lambda sources, after: sources + 1
        ),
        "nothing has moved.": lambda sources, after: sources,
    },
    inputs={"sources": torch.tensor([2, -1, 3, -2, 7, 12, 16]), "after": 3},
    kind="implement",
    minutes=5,
    difficulty=3,
)

EXERCISES: dict[str, Exercise] = {
    "05-channels": CHANNELS,
    "05-starved": STARVED,
    "05-sixteen": SIXTEEN,
    "05-renumber": RENUMBER,
}

_ELSE = "Nothing complains, and the rows that read it are built for the wrong channels."
SILENT = Quiz(
    question="A class of yours is known by name, hands on 256 channels for 128, and stands in a model file that"
    " ultralytics' own reader builds. What happens while it is built?",
    options={
        "A KeyError, because ultralytics does not list the class.": "The name was found, so there is none. The list of"
        " classes is asked only for what a class hands on.",
        "An error about channels at the row of your class.": "Your row is built from its own arguments and is right."
        " Nothing is run, so nothing can disagree.",
        _ELSE: "Yes. For a class that is not in its list the reader assumes that channels stay, and writes 128 into"
        " its own notes. The message comes when a later row first runs.",
        "The reader runs the row on a small picture and finds 256.": "Our library does that, behind the reader."
        " ultralytics' own reader only calculates.",
    },
    right=_ELSE,
)

_ADDS = "It is added to its input after being multiplied by a layer scale, which starts at 0."
ZERO = Quiz(
    question="Why does a model with two new, untrained blocks give the answers of the old one, to the bit?",
    options={
        _ADDS: "Yes: input + 0 · attention is the input. Training moves the scale, and from then on the block counts.",
        "The weights of the new blocks were taken from the old model.": "It has none to give: these rows are new. They"
        " hold random weights, as the line about tensors says.",
        "Softmax over random keys is nearly even, and that changes nothing.": "An even attention gives the average of"
        " the values. Put in the place of a map, that changes everything, as the article's model shows.",
        "The rows behind are renumbered, so they pass the blocks by.": "They must not. A block that nobody reads would"
        " give the same answers too, and never learn. Section 7 lets you make that mistake.",
    },
    right=_ADDS,
)

_ACTIVATION = "The activations, which have no weights: torchvision's are ReLU, ultralytics' ResNet has SiLU."
FITS = Quiz(
    question="torchvision's ResNet-50, trained on ImageNet, has the very same tensors as the five ResNet rows of"
    " ultralytics' model. Loaded there, each finds its place, and yet the maps are others. What differs?",
    options={
        "The order of the channels.": "Both have the same layers in the same order, and channels have no order of"
        " their own: what the next layer expects is in its weights.",
        _ACTIVATION: "Yes. `load_state_dict` compares names and shapes, and an activation has neither. `carry_over`"
        " puts ReLU into the model and keeps it in the model's file.",
        "Nothing that matters: training mends it.": "It would have to mend every layer at once. Whoever pays for"
        " pretrained weights wants the maps they were trained to make.",
    },
    right=_ACTIVATION,
)

QUIZZES: dict[str, Quiz] = {"05-silent": SILENT, "05-zero": ZERO, "05-fits": FITS}
