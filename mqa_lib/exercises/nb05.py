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
    kind="investigate",
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
    "05-renumber": RENUMBER,
}

QUIZZES: dict[str, Quiz] = {}
