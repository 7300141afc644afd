"""Small sets in COCO's format, for tests of what reads them."""

import json

from PIL import Image


def write_coco(root):
    for split, number in (("train", 7), ("val", 3)):
        (root / f"{split}2017").mkdir(parents=True)
        Image.new("RGB", (40, 20), (number, 0, 0)).save(root / f"{split}2017/{number}.png")
        said = {
            "images": [{"id": number, "file_name": f"{number}.png", "width": 40, "height": 20}],
            "annotations": [
                {"image_id": number, "category_id": 90, "bbox": [10, 5, 10, 5]},
                {"image_id": number, "category_id": 2, "bbox": [0, 0, 40, 20], "iscrowd": 1},
            ],
            "categories": [{"id": 90, "name": "hen"}, {"id": 2, "name": "egg"}],
        }
        (root / "annotations").mkdir(exist_ok=True)
        (root / f"annotations/instances_{split}2017.json").write_text(json.dumps(said))
    return root


def mend(file, change):
    said = json.loads(file.read_text())
    change(said)
    file.write_text(json.dumps(said))


def roboflow(root):
    """Return a set whose three COCO files have one name, each in the folder of its split."""
    for split, shade in (("train", 7), ("valid", 3), ("test", 5)):
        (root / split).mkdir(parents=True)
        Image.new("RGB", (40, 20), (shade, 0, 0)).save(root / split / f"{shade}.png")
        said = {
            "images": [{"id": 1, "file_name": f"{shade}.png", "width": 40, "height": 20}],
            "annotations": [{"image_id": 1, "category_id": 1, "bbox": [10, 5, 10, 10]}],
            "categories": [{"id": 1, "name": "hen"}],
        }
        (root / split / "_annotations.coco.json").write_text(json.dumps(said))
    return root
