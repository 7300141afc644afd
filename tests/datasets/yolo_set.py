"""A small set in YOLO format, for tests of what reads it."""

from PIL import Image


def write_yolo(root, name="data.yaml"):
    for split, shade in (("train", 7), ("val", 3)):
        for folder in ("images", "labels"):
            (root / folder / split).mkdir(parents=True)
        Image.new("RGB", (40, 20), (shade, 0, 0)).save(root / f"images/{split}/{shade}.png")
        (root / f"labels/{split}/{shade}.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (root / name).write_text("train: images/train\nval: images/val\nnames: [hen]\n")
    return root
