"""Data sets in Pascal VOC's and in COCO's format, written anew in YOLO format, which everything here reads.

Nothing is mended on the way: a box outside its picture comes out as one, and `yolo.validate` names it. Only what YOLO's
format cannot say at all is left out, and told.
"""

from pathlib import Path

from mqa_lib.datasets import coco, voc, yolo
from mqa_lib.datasets.coco import from_coco as from_coco
from mqa_lib.datasets.voc import from_voc as from_voc
from mqa_lib.datasets.written import Converted as Converted
from mqa_lib.datasets.yolo import DataError


def kind_of(path: str | Path) -> str:
    """Return the format of a data set: "yolo", "voc" or "coco", by the files that it has.

    Raises:
        DataError: It has none of the files by which they are known.
    """
    return _look(Path(path))[0]


def found(path: str | Path) -> Path:
    """Return what is really read of a data set: its YAML file (YOLO), its folder (VOC), its folder or file (COCO).

    Folders that hold nothing but one folder, as archives make them, are gone through.

    Raises:
        DataError: It has none of the files by which a format is known.
    """
    return _look(Path(path))[1]


def to_yolo(path: str | Path, out: str | Path) -> Converted:
    """Write a data set in VOC's or COCO's format to the folder `out` in YOLO format; its own files stay as they are.

    One that is in YOLO format already is returned as it is, and nothing is written.

    Args:
        path: Folder of the set, or a COCO file with a folder of pictures beside it.
        out: Folder to write.

    Raises:
        DataError: The set cannot be read, or names a picture that is not there.
    """
    kind, place = _look(Path(path))
    if kind == "yolo":
        return Converted(place)
    return from_voc(place, out) if kind == "voc" else from_coco(place, out)


def _look(path: Path) -> tuple[str, Path]:
    """Return the format of a data set and what of it is read."""
    place: Path | None = path
    while place is not None:
        if place.suffix in (".yaml", ".yml") and not place.is_dir():
            return "yolo", place
        if (settings := yolo.yaml_in(place)) is not None:
            return "yolo", settings
        if (place / "classes.txt").is_file() and (place / "labels").is_dir():
            raise DataError(
                f"{place} has labels in YOLO format and no data.yaml, as Label Studio exports them. Move the pictures "
                "to images/train and images/val, their labels to labels/train and labels/val, and write a data.yaml: "
                f"`train: images/train`, `val: images/val`, `names: [{_classes(place)}]`."
            )
        if (root := voc.root_of(place)) is not None:
            return "voc", root
        if place.suffix == ".json" or coco.files_of(place):
            return "coco", place
        place = _only_folder(place)
    raise DataError(
        f"{path} is no data set in YOLO format (data.yaml), VOC (Annotations/*.xml) or COCO (annotations/*.json). "
        "Check the path."
    )


def _classes(folder: Path) -> str:
    """Return the names in classes.txt."""
    text = (folder / "classes.txt").read_text(encoding="utf-8-sig", errors="replace")
    return ", ".join(line.strip() for line in text.splitlines() if line.strip())


def _only_folder(path: Path) -> Path | None:
    """Return the one folder that lies in a folder, beside nothing but what systems hide in archives."""
    if not path.is_dir():
        return None
    seen = [inner for inner in path.iterdir() if inner.name != "__MACOSX" and not inner.name.startswith(".")]
    folders = [inner for inner in seen if inner.is_dir()]
    return folders[0] if len(folders) == 1 else None
