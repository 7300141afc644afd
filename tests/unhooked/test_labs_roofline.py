"""The roofline lab: intensities, ridge points and times are those of the costs and of the devices' data."""

import math
import re

import pytest

from mqa_lib import cost, labs
from mqa_lib.labs import rooflines

MOVES = [("size", 80), ("dim", 512), ("num_heads", 16), ("key_dim", 128), ("kv_stride", 4), ("batch", 64)]


@pytest.mark.parametrize(("name", "value"), MOVES)
def test_every_slider_moves_the_points_and_the_words(name: str, value: int) -> None:
    lab = labs.roofline(device="Pixel 4 DSP")
    before = lab.intensities, lab.picture.value, lab.said.value, lab.table.value
    lab.sliders[name].value = value
    after = lab.intensities, lab.picture.value, lab.said.value, lab.table.value
    assert all(one != other for one, other in zip(before, after, strict=True))
    assert not any(slider.continuous_update for slider in lab.sliders.values())


@pytest.mark.parametrize("batch", [1, 7])
def test_intensity_is_macs_by_bytes_with_the_weights_read_once(batch: int) -> None:
    lab = labs.roofline("Pixel 4 DSP", size=11, dim=32, num_heads=2, key_dim=16, kv_stride=2, batch=batch)
    for name, one in cost.side_by_side(32, 11, 11, 2, 16, 2, bytes_per_number=1).items():
        moved = one.weight_bytes + batch * one.activation_bytes
        assert lab.intensities[name] == pytest.approx(batch * one.macs / moved)


def test_scores_in_memory_add_their_bytes_and_lower_every_intensity() -> None:
    fused, written = labs.roofline(), labs.roofline(scores_in_memory=True)
    for name, each in fused.costs.items():
        assert written.costs[name].bytes_moved() == each.bytes_moved(scores_in_memory=True)
        assert written.intensities[name] < fused.intensities[name]


def test_words_and_table_say_who_waits_for_what() -> None:
    lab = labs.roofline(device="Pixel 8 EdgeTPU", size=20, dim=256)
    assert lab.said.value.count("memory-bound") == 3 and "433.8" in lab.said.value
    lab.device.value = "Pixel 6 CPU"
    assert lab.said.value.count("compute-bound") == 3 and "31.2" in lab.said.value
    for name, at in lab.intensities.items():
        assert f"{name} is compute-bound ({at:.1f})" in lab.said.value
        assert f"{name} at {at:.1f} MACs per byte attains 100% of the peak" in lab.alt


@pytest.mark.parametrize(("what", "first", "second"), [("Sharing", 0, 1), ("down-sampling", 1, 2)])
def test_the_changes_are_those_of_the_costs(what: str, first: int, second: int) -> None:
    lab = labs.roofline(device="NVIDIA T4", size=40, dim=1024)
    costs, took = list(lab.costs.values()), list(lab.seconds().values())
    pairs = [
        (costs[first].macs, costs[second].macs),
        (costs[first].bytes_moved(), costs[second].bytes_moved()),
        (took[first], took[second]),
    ]
    pattern = rf"{what} changes MACs by ([+-]\d+)%, bytes by ([+-]\d+)%, and [^;.]* by ([+-]\d+)%"
    said = re.search(pattern, lab.say())
    assert said is not None
    assert [int(each) for each in said.groups()] == [round(100 * (b / a - 1)) for a, b in pairs]


def test_another_machine_offers_the_number_formats_that_are_known_for_it() -> None:
    lab = labs.roofline(device="NVIDIA T4")
    assert lab.number_format.value == 2
    assert [size for _, size in lab.number_format.options] == [4, 2, 1]
    lab.number_format.value = 1
    assert lab.ridge == pytest.approx(130e12 / 2 / 320e9)
    lab.device.value = "Pixel 4 DSP"
    assert lab.number_format.value == 1 and lab.ridge == 347.3
    assert 'role="alert"' not in lab.said.value


def test_this_machine_is_measured_once_and_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(rooflines, "_here", [])
    monkeypatch.setattr(rooflines.bench, "rates", lambda repeats: asked.append(repeats) or (7e9, 2e9))
    lab = labs.roofline()
    lab.device.value = rooflines.HERE
    lab.sliders["size"].value = 40
    assert len(asked) == 1 and lab.ridge == 3.5
    assert "measured just now" in lab.table.value


@pytest.mark.parametrize("device", cost.DEVICES.values(), ids=lambda device: device.name)
def test_every_device_names_its_source_and_has_a_ridge_for_its_formats(device: cost.Device) -> None:
    assert device.source and device.formats
    for size in device.formats:
        assert math.isfinite(device.ridge(size)) and device.ridge(size) > 1
    with pytest.raises(ValueError, match=r"bytes_per_number.*Use one of"):
        device.ridge(8)
