"""The stride lab shows the trained layer's own weights and verdicts, and its counts can be counted again."""

import html
import json

import numpy as np
import pytest
import torch

from mqa_lib import labs, probe
from mqa_lib.labs import strides

MOVES = [("kv_stride", 4), ("number", 5), ("lock", 3), ("head", None), ("places", strides.EVERYWHERE)]


@pytest.mark.parametrize(("name", "value"), MOVES)
def test_every_control_changes_the_one_picture_and_the_words(name: str, value: object) -> None:
    lab = labs.stride_lab()
    if name == "head":
        value = (lab.chosen_head + 1) % 4  # another one than is drawn
    picture, before, said = lab.picture, lab.picture.value, lab.said.value
    getattr(lab, name).value = value
    assert lab.picture is picture and picture.value != before and lab.said.value != said
    assert f'alt="{html.escape(lab.alt)}"' in picture.value


@pytest.mark.parametrize("kv_stride", probe.STRIDES)
def test_weights_verdict_and_distance_are_the_probes_own(kv_stride: int) -> None:
    lab = labs.stride_lab(kv_stride, picture=3, lock=1, places=strides.EVERYWHERE)
    network, batch = probe.load(kv_stride), strides.drawn(probe.CELL)
    place = 3 * probe.PAIRS[0] + 1
    query = int(batch.lock_cell[place])
    with torch.no_grad():
        pictures = batch.pictures[3:4] / 255
        weights = network.attn.weights(network.norm(network.stem(pictures - 0.5)))[0, :, query]
        named = int(network(pictures).flatten(2)[0, :, query].argmax())
    assert lab.query == query
    assert np.allclose(lab.seen.rows(query).reshape(4, -1), weights.numpy(), atol=0.01)
    bits = -(weights * weights.clamp_min(1e-30).log2()).sum(-1)
    assert bits[lab.chosen_head] <= bits.min() + 0.01
    colours = list(strides.COLOURS)
    assert lab.named() == (colours[named], colours[int(batch.colour[place])])
    verdict = "right" if named == int(batch.colour[place]) else "wrong"
    assert f"is named {colours[named]}: {verdict}" in lab.say()
    strongest = int(weights[lab.chosen_head].argmax())
    centre = lab.seen.key_centres()[strongest]
    key = batch.scenes[3].pairs[1].key
    assert f"lies {max(abs(centre[0] - key.row), abs(centre[1] - key.column)):.0f} pixels" in lab.say()


def test_the_bundled_counts_can_be_counted_again() -> None:
    (row,) = (each for each in strides.counted() if (each["kv_stride"], each["step"]) == (4, probe.CELL))
    batch = probe.draw(row["pictures"], seed=10_000, split="val", step=probe.CELL)
    again = probe.counted(probe.load(4), batch)
    assert again == {name: pytest.approx(row[name], abs=0.003) for name in again}


def test_the_cards_say_how_the_weights_were_made_and_the_history_comes_back() -> None:
    for stride in probe.STRIDES:
        card = json.loads((probe.WEIGHTS / f"stride-{stride}.json").read_text())
        assert card["made by"] == "python -m mqa_lib probe --weights" and card["kv_stride"] == stride
        assert len(card["commit"]) == 40 and card["machine"]["versions"]["torch"]
        assert probe.load(stride).history[-1].accuracy == card["history"][-1]["accuracy"]
        assert (probe.WEIGHTS / f"stride-{stride}.safetensors").stat().st_size < 400_000


@pytest.mark.parametrize("kv_stride", probe.STRIDES)
def test_the_share_of_used_cells_is_that_of_the_layers_own_gradient(kv_stride: int) -> None:
    x = torch.randn(1, 64, probe.GRID, probe.GRID, requires_grad=True)
    (touched,) = torch.autograd.grad(probe.load(kv_stride).attn.key(x).square().sum(), x)
    used = (touched[0].abs().sum(0) > 0).double().mean().item()
    assert strides.used_cells(kv_stride) == pytest.approx(used)


def test_a_missing_probe_names_the_command_that_makes_it(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match=r"python -m mqa_lib probe --weights"):
        probe.load(2, tmp_path)


def test_words_and_alt_text_say_the_counts() -> None:
    lab = labs.stride_lab(2, places=strides.EVERYWHERE)
    for stride, shares in lab.counts().items():
        for what, share in shares.items():
            assert f"{' '.join(what.split())} {share:.0%}" in lab.alt.split(f"{stride}: ")[1]
    (row,) = (each for each in strides.counted() if (each["kv_stride"], each["step"]) == (2, probe.CELL))
    assert "shapes lay on every second cell only" in lab.said.value
    assert f"{row['right']:.1%} named right" in lab.said.value and f"{row['locks']:,} locks" in lab.said.value
