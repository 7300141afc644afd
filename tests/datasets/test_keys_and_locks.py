"""What the story rests on: a lock's class is told by its key, and by nothing else in the picture."""

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mqa_lib.datasets import keys_and_locks
from mqa_lib.datasets.keys_and_locks import CLASSES, COLOURS, WHITE, draw_scene, render

BUNDLED = Path(__file__).parents[2] / "data" / "keys_and_locks"
SCENES = [draw_scene(seed, index) for seed in (2, 3) for index in range(30)]


def window(place):
    reach = place.radius + 1
    return slice(place.row - reach, place.row + reach + 1), slice(
        place.column - reach, place.column + reach + 1
    )


@pytest.mark.parametrize("scene", SCENES[:20], ids=range(20))
def test_recolouring_a_key_changes_only_pixels_of_that_key_and_the_class_of_its_lock(scene):
    for index, pair in enumerate(scene.pairs):
        recoloured = replace(pair, colour=(pair.colour + 1) % len(COLOURS))
        other = replace(scene, pairs=(*scene.pairs[:index], recoloured, *scene.pairs[index + 1 :]))
        changed = (render(scene) != render(other)).any(-1)
        assert changed[window(pair.key)].any()
        changed[window(pair.key)] = False
        assert not changed.any()
        before, after = keys_and_locks.boxes(scene), keys_and_locks.boxes(other)
        differing = [place for place, (a, b) in enumerate(zip(before, after, strict=True)) if a != b]
        assert differing == [2 * index + 1]


@pytest.mark.parametrize("scene", SCENES[:20], ids=range(20))
def test_every_lock_has_exactly_one_key_of_its_shape_and_its_class_names_that_keys_colour(scene):
    shapes = [pair.shape for pair in scene.pairs]
    assert len(set(shapes)) == len(shapes) and 2 <= len(shapes) <= 4
    locks = keys_and_locks.boxes(scene)[1::2]
    for pair, lock in zip(scene.pairs, locks, strict=True):
        colour = tuple(render(scene)[pair.key.row, pair.key.column])
        assert CLASSES[lock.label] == f"lock-{next(name for name, rgb in COLOURS.items() if rgb == colour)}"


@pytest.mark.parametrize("scene", SCENES, ids=range(len(SCENES)))
def test_boxes_are_tight_to_the_drawn_pixels(scene):
    boxes = keys_and_locks.boxes(scene)
    for index, pair in enumerate(scene.pairs):
        without = keys_and_locks.Scene(
            scene.size, scene.pairs[:index] + scene.pairs[index + 1 :], *_background(scene)
        )
        drawn = (render(scene) != render(without)).any(-1)
        for place, box in ((pair.key, boxes[2 * index]), (pair.lock, boxes[2 * index + 1])):
            only = np.zeros_like(drawn)
            only[window(place)] = drawn[window(place)]
            rows, columns = np.flatnonzero(only.any(1)), np.flatnonzero(only.any(0))
            found = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
            assert found == (box.left, box.top, box.right, box.bottom)


def _background(scene):
    return scene.near, scene.far, scene.texture


def test_no_two_shapes_touch_and_none_is_cut_off():
    for scene in SCENES:
        boxes = keys_and_locks.boxes(scene)
        assert all(min(b.left, b.top) >= 0 and max(b.right, b.bottom) <= scene.size for b in boxes)
        for a, b in itertools.combinations(boxes, 2):
            assert a.right <= b.left or b.right <= a.left or a.bottom <= b.top or b.bottom <= a.top


def test_locks_are_white_and_keys_are_filled():
    for scene in SCENES[:10]:
        picture = render(scene)
        for pair in scene.pairs:
            assert tuple(picture[pair.key.row, pair.key.column]) == tuple(COLOURS.values())[pair.colour]
            assert tuple(picture[pair.lock.row, pair.lock.column]) not in (WHITE, *COLOURS.values())
            assert (picture[window(pair.lock)] == WHITE).all(-1).any()


def test_the_pixels_of_a_seed_are_the_same_on_every_platform():
    # Made on Linux x86-64 with numpy 2.4; CI makes it again on Python 3.11 to 3.13.
    card = json.loads((BUNDLED / "card.json").read_text())
    assert keys_and_locks.fingerprint(card["seed"], size=card["size"]) == card["fingerprint"]


def test_splits_and_seeds_share_no_picture():
    pictures = {
        render(draw_scene(seed, index, split)).tobytes()
        for seed in (5, 7)
        for split in ("train", "val")
        for index in range(25)
    }
    assert len(pictures) == 100


def test_sizes_places_and_backgrounds_vary():
    places = [place for scene in SCENES for pair in scene.pairs for place in (pair.key, pair.lock)]
    assert {place.radius for place in places} == {9, 10, 11, 12, 13}
    assert np.std([place.row for place in places]) > 25 and np.std([place.column for place in places]) > 25
    assert len({scene.near for scene in SCENES}) == len(SCENES)


def test_lock_classes_are_balanced_within_a_tenth():
    counts = np.bincount([pair.colour for index in range(400) for pair in draw_scene(11, index).pairs])
    assert counts.min() > 0.9 * counts.mean() and counts.max() < 1.1 * counts.mean()


def test_a_keys_colour_says_nothing_about_the_other_keys():
    counts = np.zeros((4, 4))
    for index in range(2000):
        first, second = draw_scene(13, index).pairs[:2]
        counts[first.colour, second.colour] += 1
    expected = counts.sum() / 16
    assert (
        (counts - expected) ** 2 / expected
    ).sum() < 25  # chi-square, 15 degrees of freedom: p = 0.05 at 25.0


def test_the_four_colours_are_told_apart_with_every_colour_vision_deficiency():
    nearest = min(
        np.linalg.norm(_lab(matrix @ _linear(a)) - _lab(matrix @ _linear(b)))
        for matrix in _SIGHT
        for a, b in itertools.combinations(COLOURS.values(), 2)
    )
    assert nearest > 20  # ten times a just noticeable difference


# Machado, Oliveira and Fernandes (2009), severity 1: normal, protanopia, deuteranopia, tritanopia.
_SIGHT = np.array(
    [
        [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
    ]
)


def _linear(rgb):
    share = np.array(rgb) / 255
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)


def _lab(rgb):
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = np.cbrt(to_xyz @ np.clip(rgb, 0, 1) / [0.9505, 1.0, 1.089])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])
