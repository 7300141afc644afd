"""Make an interactive page smaller, step by step, and say on the page what was done without."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from mqa_lib.explorer import payload, words
from mqa_lib.explorer.seen import Seen

CLOSE = 2e-3  # a weight may differ by so much: what half precision may cost, too


def plans(scenes: Sequence[Seen]) -> Iterator[tuple[Sequence[Seen], int, str]]:
    """Return what a page could show, the most first: pictures, bits for queries and keys, and what to say of that.

    Twelve bits come before doing without a layer, and are passed over where a weight would show it. Of layers, the
    largest goes first, from every picture; the last one stays.

    Args:
        scenes: What was seen, picture by picture.
    """
    names = {layer.layer for scene in scenes for layer in scene.layers}
    by_size = sorted(names, key=lambda name: -_size(scenes, name))
    for count in range(max(len(by_size), 1)):
        kept = [_without(scene, by_size[:count]) for scene in scenes]
        left_out = _left_out(scenes, by_size[:count]) if count else ""
        yield kept, 16, left_out
        worst = max((payload.rounding(layer) for scene in kept for layer in scene.layers), default=0.0)
        if worst <= CLOSE:
            yield kept, 12, f"{left_out} {_rounded(worst)}".strip()


def _size(scenes: Sequence[Seen], name: str) -> int:
    return sum(
        layer.q.nbytes + layer.k.nbytes for scene in scenes for layer in scene.layers if layer.layer == name
    )


def _without(scene: Seen, names: Sequence[str]) -> Seen:
    """Return the picture without some layers; those that stay are counted anew, in what was checked of them too."""
    stay = [number for number, layer in enumerate(scene.layers) if layer.layer not in names]
    checks = [replace(check, layer=stay.index(check.layer)) for check in scene.checks if check.layer in stay]
    return replace(scene, layers=[scene.layers[number] for number in stay], checks=checks)


def _left_out(scenes: Sequence[Seen], names: Sequence[str]) -> str:
    layers = {layer.layer: layer for scene in scenes for layer in scene.layers}
    listed = "; ".join(words.layer_name(layers[name]) for name in names)
    where = f"It is among the fixed pictures below, and `--layer {names[0]}` shows it alone."
    if len(names) > 1:
        where = "They are among the fixed pictures below, and `--layer NAME` shows one alone."
    without = f"the explorer does without {len(names)} of {len(layers)} layers: {listed}"
    return f"To keep this page small, {without}. {where}"


def _rounded(worst: float) -> str:
    return (
        "To keep this page small, queries and keys are kept in 12 bits each instead of 16: no weight differs by more "
        f"than {math.ceil(max(worst, 1e-9) * 1e4) / 1e4:.2%} of the whole for that."
    )
