"""The probe shows what attention is for: chance without it, nearly all locks with it."""

import json
import math
from pathlib import Path

import pytest
import torch

from mqa_lib import probe

ABLATION = Path(__file__).parents[1] / "data/experiments/probe.yaml"


@pytest.fixture(scope="module")
def trained():
    return probe.train("mobile-mqa", kv_stride=2, seed=17, steps=150)


def test_150_steps_with_mobile_mqa_name_95_percent_of_the_locks_for_a_seed_that_is_not_recorded(
    trained,
):
    assert trained.history[-1].accuracy >= 0.95


def test_some_head_puts_its_strongest_key_on_the_matching_key_for_most_locks(trained):
    hits = trained.key_hits(probe.draw(64, seed=12, split="val"))
    assert hits.shape == (4, 4 * 64)
    assert hits.any(0).double().mean() > 0.75


@pytest.mark.parametrize("kv_stride", [1, 2, 4])
def test_hits_are_counted_on_the_grid_that_the_layer_really_has(kv_stride):
    network, batch = probe.Probe("mobile-mqa", kv_stride), probe.draw(3, seed=1)
    keys = network.attn.key(torch.zeros(1, 64, probe.GRID, probe.GRID)).shape[-1]
    centres = [probe.cost.key_centre(index, kv_stride) for index in range(keys)]
    near = [min(range(keys), key=lambda k, row=row: abs(centres[k] - row)) for row in range(probe.GRID)]
    wanted = torch.tensor(
        [near[c // probe.GRID] * keys + near[c % probe.GRID] for c in batch.key_cell.tolist()]
    )
    strongest = network.eval().attn.weights(network.norm(network.stem(batch.pictures / 255 - 0.5)))
    strongest = strongest[batch.lock_picture, :, batch.lock_cell].argmax(-1).T
    assert torch.equal(network.key_hits(batch), strongest == wanted)


def test_without_attention_a_cell_sees_no_farther_than_its_window():
    network = probe.Probe("none").eval()
    x = torch.rand(1, 3, probe.SIZE, probe.SIZE, requires_grad=True)
    network(x)[0, :, 8, 8].sum().backward()
    seen = x.grad.abs().sum((0, 1)).nonzero()
    assert (seen.max(0).values - seen.min(0).values + 1).max() <= 19


def test_every_lock_and_key_lies_in_the_cell_that_the_batch_names():
    batch = probe.draw(5, seed=3)
    pairs = [pair for scene in batch.scenes for pair in scene.pairs]
    for pair, lock, key in zip(pairs, batch.lock_cell, batch.key_cell, strict=True):
        assert (lock // probe.GRID * probe.CELL, lock % probe.GRID * probe.CELL) == (
            pair.lock.row,
            pair.lock.column,
        )
        assert (key // probe.GRID * probe.CELL, key % probe.GRID * probe.CELL) == (
            pair.key.row,
            pair.key.column,
        )


def test_taking_pictures_takes_their_locks_along():
    batch = probe.draw(5, seed=3)
    taken = batch.take(torch.tensor([3, 1]))
    assert torch.equal(taken.pictures, batch.pictures[[3, 1]])
    assert taken.lock_cell.tolist() == batch.lock_cell.view(5, 4)[[3, 1]].flatten().tolist()
    assert taken.lock_picture.tolist() == [0] * 4 + [1] * 4


def test_the_same_seed_trains_the_same_probe():
    first, second = (probe.train("mobile-mqa", seed=5, steps=3, pictures=64) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_a_probe_without_shared_keys_has_no_hits_to_count():
    with pytest.raises(ValueError, match=r"`attention` \(=none\) has no shared keys.*Train `mobile-mqa`"):
        probe.Probe("none").key_hits(probe.draw(1))


@pytest.mark.parametrize("kv_stride", probe.STRIDES)
def test_counts_are_those_of_a_plain_loop_over_locks(kv_stride):
    network, batch = probe.Probe("mobile-mqa", kv_stride), probe.draw(37, seed=2, step=probe.CELL)
    found = probe.counted(network, batch)
    side, _ = probe.cost.key_grid(probe.GRID, probe.GRID, kv_stride)
    centres = [probe.CELL * probe.cost.key_centre(index, kv_stride) for index in range(side)]
    weights = network.attn.weights(network.norm(network.stem(batch.pictures / 255 - 0.5))).detach()
    hits, near, bits = [], [], []
    for picture, scene in enumerate(batch.scenes):
        for pair in scene.pairs:
            on = [
                abs(row - pair.key.row) <= 9 and abs(column - pair.key.column) <= 9
                for row in centres
                for column in centres
            ]
            lock = pair.lock.row // probe.CELL * probe.GRID + pair.lock.column // probe.CELL
            read = weights[picture, :, lock]
            hits.append([on[index] for index in read.argmax(-1).tolist()])
            near.append(sum(on) / len(on))
            bits += [sum(-w * math.log2(w) for w in head if w > 0) for head in read.tolist()]
    assert found["locks"] == len(hits) == 4 * 37 and found["keys"] == side**2
    assert found["found"] == pytest.approx(max(sum(head) for head in zip(*hits, strict=True)) / len(hits))
    assert found["found_by_any"] == pytest.approx(sum(map(any, hits)) / len(hits))
    assert found["chance"] == pytest.approx(sum(near) / len(near))
    assert found["entropy"] == pytest.approx(sum(bits) / len(bits), rel=1e-4)
    assert found["right"] == network.accuracy(batch)


def test_bundled_probes_come_back_with_their_weights_card_and_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(
        probe, "train", lambda kv_stride, seed, steps: kept.setdefault(kv_stride, untrained(kv_stride))
    )
    monkeypatch.setattr(probe, "counted", lambda network, batch: {"right": float(len(batch.pictures))})
    kept = {}
    written = list(probe.bundle(tmp_path, seed=3, steps=7))
    assert [path.name for path in written] == [
        *(f"stride-{each}.safetensors" for each in (1, 2, 4)),
        "strides.json",
    ]
    for stride in probe.STRIDES:
        back = probe.load(stride, tmp_path)
        assert back.attn.kv_stride == stride and not back.training and back.history == kept[stride].history
        ours, theirs = back.state_dict(), kept[stride].state_dict()
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    card = json.loads(written[0].with_suffix(".json").read_text())
    assert (card["seed"], card["steps"], card["kv_stride"], card["step"]) == (3, 7, 1, probe.STEP)
    rows = json.loads(written[-1].read_text())["rows"]
    assert [(row["step"], row["kv_stride"], row["right"]) for row in rows] == [
        (step, stride, 256.0) for step in (probe.STEP, probe.CELL) for stride in (1, 2, 4)
    ]


def untrained(kv_stride):
    network = probe.Probe("mobile-mqa", kv_stride)
    network.history = [probe.Progress(1, 64, 0.5, 1.5, 0.25)]
    return network


def test_weights_go_to_a_safetensors_file_and_nowhere_else(tmp_path):
    with pytest.raises(ValueError, match=r"`path`.*must end in .safetensors"):
        probe.save(probe.Probe("none"), tmp_path / "probe.pt", {})
    with pytest.raises(ValueError, match="no shared keys"):
        probe.counted(probe.Probe("none"), probe.draw(1))


def test_every_arm_of_the_ablation_builds_a_probe_that_names_colours_for_cells():
    arms = probe.read_arms(ABLATION)
    assert {arm["attention"] for arm in arms.values()} == set(probe.ATTENTION)
    for arm in arms.values():
        assert arm["seeds"] == [0, 1, 2, 3, 4] and (arm["steps"], arm["step"]) == (1000, 1)
        own = {key: arm[key] for key in arm.keys() - {"seeds", "steps", "pictures", "step"}}
        network = probe.Probe(**own).eval()
        assert network(torch.rand(2, 3, probe.SIZE, probe.SIZE)).shape == (2, 4, probe.GRID, probe.GRID)


def test_the_control_of_convolutions_has_at_least_as_many_parameters_as_mobile_mqa_and_hardly_more():
    ours, control = (
        sum(parameter.numel() for parameter in probe.Probe(attention, kv_stride=2).attn.parameters())
        for attention in ("mobile-mqa", "convolutions")
    )
    assert ours <= control < 1.01 * ours


GRID = """
train: {steps: 7, pictures: 64}
seeds: [3, 5]
arms:
  none: {attention: none}
  bare: {attention: article, defects: []}
"""


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("seeds: [3, 5]", "", r"`grid` \(=.*\) must have `train`, `seeds` and `arms`\. See data/"),
        ("seeds:", "more: 1\nseeds:", r"`grid` \(=.*\) must have `train`, `seeds` and `arms`"),
        (GRID, "[7]", r"`grid` \(=.*\) must have `train`, `seeds` and `arms`"),
        ("steps: 7", "stops: 7", r"`train` \(=stops\) is not known there\. Use some of: steps, .*pictures"),
        ("steps: 7", "seed: 7", r"`train` \(=seed\) is not known there"),
        ("defects:", "defect:", r"`arms: bare` \(=defect\) is not known there\. Use some of: .*kv_stride"),
        (
            "{attention: none}",
            "{attention: nun}",
            r"`attention` \(='nun'\) is not known\. Use one of: .*none",
        ),
        ("defects: []", "defects: [SKALE]", r"`defects` \(='SKALE'\) is not known\. Use one of: .*SCALE"),
        ("attention: none", "dim: 0", r"`dim` \(=0\) must be a whole number"),
    ],
)
def test_an_ablation_that_is_none_is_refused_before_anything_is_trained(tmp_path, old, new, said):
    (tmp_path / "grid.yaml").write_text(GRID.replace(old, new))
    with pytest.raises(ValueError, match=said):
        next(probe.ablation(tmp_path / "grid.yaml"))


def test_an_ablation_does_seed_by_seed_what_is_not_done_and_its_rows_say_what_they_are(tmp_path, monkeypatch):
    given = []

    def trained(every, **options):
        given.append(options)
        network = probe.Probe(options["attention"], defects=options.get("defects"))
        network.history = [
            probe.Progress(1, 64, 0.5, 1.5, 0.25),
            probe.Progress(7, 448, 2.5, 0.1234567, 0.75),
        ]
        return network

    monkeypatch.setattr(probe, "train", trained)
    grid = tmp_path / "grid.yaml"
    grid.write_text(GRID)
    rows = json.loads(json.dumps(list(probe.ablation(grid))))  # as a file brings them back
    assert [(row["seed"], row["arm"]) for row in rows] == [(3, "none"), (3, "bare"), (5, "none"), (5, "bare")]
    parameters = sum(p.numel() for p in probe.Probe("article").attn.parameters())
    assert rows[1].pop("cpu_seconds") >= 0 and rows[1] == {
        **{"arm": "bare", "seed": 3, "steps": 7, "pictures": 64, "attention": "article", "defects": []},
        **{"accuracy": 0.75, "loss": 0.12346, "parameters": parameters, "curve": [[1, 0.25], [7, 0.75]]},
    }
    assert rows[0]["parameters"] == 0
    assert given[1] == {"seed": 3, "steps": 7, "pictures": 64, "attention": "article", "defects": []}
    given.clear()
    left = list(probe.ablation(grid, done=rows[:3]))
    assert [(row["seed"], row["arm"]) for row in left] == [(5, "bare")] and len(given) == 1
    assert list(probe.ablation(grid, done=rows)) == []
    # of another training they are other rows
    grid.write_text(GRID.replace("steps: 7", "steps: 11").replace("seeds: [3, 5]", "seeds: [3]"))
    assert len(list(probe.ablation(grid, done=rows))) == 2
