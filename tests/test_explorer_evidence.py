"""Counts over many pictures say what they claim, for maps whose truth is known."""

import numpy as np
import pytest
import torch
from torch import nn

from mqa_lib import MobileMQA, record
from mqa_lib.datasets import keys_and_locks
from mqa_lib.explorer import evidence
from mqa_lib.record import AttentionRecord, Rectangle

SIZE, CELL = 96, 6
SCENES, IMAGES = zip(*keys_and_locks.stream(0, 3, "val", SIZE, (2, 4), (5, 7)), strict=True)
LOCKS = sum(len(scene.pairs) for scene in SCENES)


def perfect(scene, image) -> AttentionRecord:
    """Return a record whose head 0 reads the key's cell at every lock, and whose head 1 the lock's own cell."""
    grid = SIZE // CELL
    q, k = np.zeros((2, grid**2, grid**2), np.float16), np.eye(grid**2, dtype=np.float16)[None]
    for pair in scene.pairs:
        lock, key = (p.row // CELL * grid + p.column // CELL for p in (pair.lock, pair.key))
        q[0, lock, key] = q[1, lock, lock] = 50
    sizes = dict.fromkeys(("query_cell", "key_step", "key_size"), (float(CELL), float(CELL)))
    said = {"layer": "attn", "kind": "Mobile MQA", "weights_are": "Made by hand.", "key_origin": (0.0, 0.0)}
    grids = {"query_grid": (grid, grid), "key_grid": (grid, grid)}
    return AttentionRecord(q=q, k=k, scale=1.0, image=image, **grids, **sizes, **said)


def uniform_model() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, CELL, CELL), MobileMQA(8, num_heads=2, key_dim=5)).eval()


@pytest.fixture
def hits(monkeypatch) -> evidence.Hits:
    known = {image.tobytes(): scene for scene, image in zip(SCENES, IMAGES, strict=True)}
    monkeypatch.setattr(evidence, "capture", lambda _, image, size: [perfect(known[image.tobytes()], image)])
    return evidence.at_the_key(nn.Identity(), SCENES, IMAGES, near=CELL)


def test_a_head_that_reads_every_key_is_found_and_one_that_reads_the_lock_is_not(hits):
    assert hits.found.shape == (LOCKS, 2)
    assert list(hits.heads) == [1, 0]
    assert (hits.best_head, hits.best, hits.any_head) == (0, 1, 1)


def test_blind_chance_is_the_share_of_keys_that_are_near(hits):
    near = [
        sum(
            max(
                abs((row + 0.5) * CELL - pair.key.row - 0.5),
                abs((column + 0.5) * CELL - pair.key.column - 0.5),
            )
            <= CELL
            for row in range(SIZE // CELL)
            for column in range(SIZE // CELL)
        )
        for scene in SCENES
        for pair in scene.pairs
    ]
    assert hits.blindly == pytest.approx(np.mean(near) / (SIZE // CELL) ** 2)


def test_counting_works_on_any_model_that_can_be_recorded():
    assert evidence.at_the_key(uniform_model(), SCENES, IMAGES, near=CELL).found.shape == (LOCKS, 2)


def test_paint_changes_the_part_and_nothing_else():
    image, part = IMAGES[0], Rectangle(6.0, 12.0, 24.0, 30.0)
    changed = evidence.paint(image, part)
    outside = np.ones((SIZE, SIZE), bool)
    outside[6:24, 12:30] = False
    np.testing.assert_array_equal(changed[outside], image[outside])
    assert np.abs(changed[~outside] - image.mean((0, 1))).max() <= 0.5


class ReadsTheKeys(nn.Module):
    """A network that is right at a lock as long as its key is not painted over; its attention is `perfect`."""

    def forward(self, x):
        image = (x[0].permute(1, 2, 0) * 255).round().byte().numpy()
        scores = torch.zeros(1, 4, SIZE // CELL, SIZE // CELL)
        for pair in SCENES[0].pairs:
            seen = (
                tuple(image[pair.key.row, pair.key.column])
                == tuple(keys_and_locks.COLOURS.values())[pair.colour]
            )
            scores[
                0, pair.colour if seen else pair.colour - 1, pair.lock.row // CELL, pair.lock.column // CELL
            ] = 1
        return scores


@pytest.mark.parametrize(("head", "still_right"), [(0, 0.0), (1, np.nan)])
def test_painting_over_the_key_costs_the_answer_and_a_part_at_the_lock_is_passed_over(
    head, still_right, monkeypatch
):
    monkeypatch.setattr(evidence, "capture", lambda _, image: [perfect(SCENES[0], image)])
    result = evidence.painted_over(ReadsTheKeys(), SCENES[:1], IMAGES[:1], head)
    assert result.strongest == pytest.approx(still_right, nan_ok=True)
    assert result.control == 1 and result.locks == (len(SCENES[0].pairs) * (head == 0), len(SCENES[0].pairs))


def test_layers_are_counted_in_the_order_in_which_they_run():
    model = nn.Sequential(uniform_model(), MobileMQA(8, num_heads=3, key_dim=5, value_dim=7)).eval()
    assert evidence.at_the_key(model, SCENES, IMAGES, near=CELL, layer=1).found.shape == (LOCKS, 3)
    assert len(record.capture(model, IMAGES[0])) == 2
