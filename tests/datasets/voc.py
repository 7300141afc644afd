"""A small set in VOC's format, for tests of what reads it."""

from pathlib import Path

from PIL import Image

OBJECT = "<object><name>{}</name><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"
# Of three pictures of 40×20 pixels the objects: class, then first and last column and row inside, counted from 1.
OBJECTS = {
    "a": [("hen", 1, 1, 40, 20), ("egg", 11, 6, 20, 15)],
    "b": [("egg", 5, 3, 8, 4)],
    "c": [("hen", 21, 11, 40, 20), ("egg", 7, 7, 7, 7)],
}


def write_voc(root: Path) -> Path:
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for shade, (stem, objects) in enumerate(OBJECTS.items(), start=1):
        Image.new("RGB", (40, 20), (50 * shade, 0, 0)).save(root / f"JPEGImages/{stem}.jpg")
        size = "<size><width>40</width><height>20</height></size>"
        text = "".join(
            OBJECT.format(name, left, top, right, bottom) for name, left, top, right, bottom in objects
        )
        (root / f"Annotations/{stem}.xml").write_text(f"<annotation>{size}{text}</annotation>")
    for split, stem in (("train", "a"), ("val", "b"), ("test", "c")):
        (root / f"ImageSets/Main/{split}.txt").write_text(f"{stem}\n")
    return root


def labels(out, split, stem):
    return (out / f"labels/{split}/{stem}.txt").read_text().splitlines()
