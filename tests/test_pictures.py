"""Every kind of picture becomes the RGB bytes that ultralytics would read."""

import numpy as np
import pytest
import torch
from PIL import Image

from mqa_lib import pictures

HEIGHT, WIDTH = 5, 7


def levels(*shape: int) -> np.ndarray:
    return np.random.RandomState(3).randint(0, 256, shape).astype(np.uint8)


def test_rgb_bytes_come_back_unchanged():
    np.testing.assert_array_equal(pictures.read(levels(HEIGHT, WIDTH, 3)), levels(HEIGHT, WIDTH, 3))


@pytest.mark.parametrize("shape", [(HEIGHT, WIDTH), (HEIGHT, WIDTH, 1)])
def test_grey_becomes_three_equal_channels(shape):
    grey = levels(*shape)
    np.testing.assert_array_equal(pictures.read(grey), np.stack([grey.reshape(HEIGHT, WIDTH)] * 3, -1))


def test_transparency_is_dropped():
    four = levels(HEIGHT, WIDTH, 4)
    np.testing.assert_array_equal(pictures.read(four), four[..., :3])
    np.testing.assert_array_equal(pictures.read(Image.fromarray(four, "RGBA")), four[..., :3])


def test_sixteen_bits_become_eight():
    wide = levels(HEIGHT, WIDTH).astype(np.uint16) * 257
    np.testing.assert_array_equal(pictures.read(wide)[..., 0], wide // 257)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_every_common_mode_of_a_file_is_read(mode, tmp_path):
    file = tmp_path / ("one.tiff" if mode == "CMYK" else "one.png")
    Image.fromarray(levels(HEIGHT, WIDTH, 3)).convert(mode).save(file)
    np.testing.assert_array_equal(pictures.read(file), np.asarray(Image.open(file).convert("RGB")))


def test_a_file_of_sixteen_bits_keeps_its_highest_eight(tmp_path):
    wide = levels(HEIGHT, WIDTH).astype(np.uint16) * 257
    Image.fromarray(wide).save(tmp_path / "wide.png")
    np.testing.assert_array_equal(pictures.read(tmp_path / "wide.png")[..., 1], wide // 257)


def test_a_camera_s_note_on_which_way_is_up_is_followed(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: turn by a quarter to the right
    Image.fromarray(levels(HEIGHT, WIDTH, 3)).save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(
        pictures.read(tmp_path / "turned.png"), np.rot90(levels(HEIGHT, WIDTH, 3), -1)
    )


def test_a_tensor_holds_channels_first_and_values_up_to_one():
    image = levels(HEIGHT, WIDTH, 3)
    torch.testing.assert_close(pictures.tensor(image)[0, 2], torch.from_numpy(image[..., 2]) / 255)


def test_stretching_is_what_opencv_does_for_ultralytics():
    cv2 = pytest.importorskip("cv2", reason="opencv comes with ultralytics")
    image = levels(53, 71, 3)
    ours = pictures.tensor(image, (37, 41))[0].permute(1, 2, 0) * 255
    # opencv computes in fixed point, so that a level in a few may round the other way
    assert np.abs(ours.numpy() - cv2.resize(image, (41, 37), interpolation=cv2.INTER_LINEAR)).max() < 1.01
