"""Data sets in Pascal VOC's and in COCO's format, written anew in YOLO format, which everything here reads.

Nothing is mended on the way: a box outside its picture comes out as one, and `yolo.validate` names it. Only what YOLO's
format cannot say at all is left out, and told.
"""

from pathlib import Path

from mqa_lib.datasets import coco, voc
from mqa_lib.datasets.coco import from_coco as from_coco
from mqa_lib.datasets.voc import from_voc as from_voc
from mqa_lib.datasets.written import Converted as Converted
from mqa_lib.datasets.yolo import DataError


def kind_of(path: str | Path) -> str:
    """Return the format of a data set: "yolo", "voc" or "coco", by the files that it has.

    Raises:
        DataError: It has none of the files by which they are known.
    """
    path = Path(path)
    if path.suffix in (".yaml", ".yml") or (path / "data.yaml").exists():
        return "yolo"
    if voc.root_of(path) is not None:
        return "voc"
    if path.suffix == ".json" or coco.files_of(path):
        return "coco"
    raise DataError(
        f"{path} is no data set in YOLO format (data.yaml), VOC (Annotations/*.xml) or COCO (annotations/*.json). "
        "Check the path."
    )


def to_yolo(path: str | Path, out: str | Path) -> Converted:
    """Write a data set in VOC's or COCO's format to the folder `out` in YOLO format; its own files stay as they are.

    One that is in YOLO format already is returned as it is, and nothing is written.

    Args:
        path: Folder of the set, or a COCO file with a folder of pictures beside it.
        out: Folder to write.

    Raises:
        DataError: The set cannot be read, or names a picture that is not there.
    """
    kind = kind_of(path)
    if kind == "yolo":
        return Converted(Path(path))
    return from_voc(path, out) if kind == "voc" else from_coco(path, out)
