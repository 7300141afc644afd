"""Keys & Locks: a generated detection set in which looking far is necessary.

Filled coloured shapes are keys, white outlines are locks. A lock's class is the colour of the key of the same shape,
wherever in the picture that key is. A network that sees only the lock can do no better than guess one colour in four.

A picture is a function of (seed, split, index) alone: a large set begins with the pictures of a small one.
Random numbers come from `numpy.random.RandomState`, whose stream numpy has frozen.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from mqa_lib import checks
from mqa_lib.datasets.shapes import FULL, SHAPES, coverage

# Four colours of Okabe and Ito: of all fours in that palette the one whose nearest pair is farthest apart (CIELAB 24)
# under normal sight, protanopia, deuteranopia and tritanopia.
COLOURS: dict[str, tuple[int, int, int]] = {
    "sky": (86, 180, 233),
    "yellow": (240, 228, 66),
    "blue": (0, 114, 178),
    "vermillion": (213, 94, 0),
}
WHITE = (255, 255, 255)
CLASSES = ("key", *(f"lock-{colour}" for colour in COLOURS))
SPLITS = ("train", "val", "test")
_SMALLEST, _LARGEST = 9, 13  # radius in pixels of a picture of 128 pixels
_TRIES = 400


@dataclass(frozen=True)
class Place:
    """Where a shape lies: the pixel of its centre and its radius in pixels."""

    row: int
    column: int
    radius: int


@dataclass(frozen=True)
class Pair:
    """A key, the lock of the same shape, and the index of the colour that the key has and the lock's class names."""

    shape: str
    colour: int
    key: Place
    lock: Place


@dataclass(frozen=True)
class Scene:
    """Everything a picture shows: its pairs, and the background as two corner colours and a texture's seed."""

    size: int
    pairs: tuple[Pair, ...]
    near: tuple[int, int, int]
    far: tuple[int, int, int]
    texture: int


@dataclass(frozen=True)
class Box:
    """A labelled box, in pixels; `right` and `bottom` are the first pixel column and row outside."""

    label: int
    left: int
    top: int
    right: int
    bottom: int


def draw_scene(
    seed: int,
    index: int,
    split: str = "train",
    size: int = 128,
    pairs: tuple[int, int] = (2, 4),
    radii: tuple[int, int] | None = None,
    step: int = 1,
) -> Scene:
    """Return picture `index` of a split as a description: shapes, colours, places and background.

    The shapes of a picture's pairs differ and do not overlap. Their colours do not depend on each other, so none can be
    told by elimination.

    Args:
        seed: Seed of the whole set.
        index: Number of the picture in its split.
        split: One of train, val, test.
        size: Height and width in pixels, at least 48.
        pairs: Smallest and largest number of pairs, 1 to 6.
        radii: Smallest and largest radius in pixels; 7 and 10 % of `size` if not given.
        step: Centres lie on multiples of this many pixels; 1 lets them lie anywhere.

    Raises:
        ValueError: `size`, `split`, `pairs` or `radii` is outside what is said above, or the shapes do not fit.
    """
    fewest, most = pairs
    if not 1 <= fewest <= most <= len(SHAPES):
        raise checks.refuse(
            "pairs", pairs, f"must rise from 1 or more to {len(SHAPES)} or fewer", "Use (2, 4)."
        )
    if radii is not None and not 3 <= radii[0] <= radii[1] <= size // 4:
        raise checks.refuse("radii", radii, f"must rise from 3 or more to {size // 4} or less", "Use (5, 7).")
    if size < 48:
        raise checks.refuse(
            "size", size, "must be at least 48 pixels for the shapes to differ", "Use 96 or 128."
        )
    checks.one_of("split", split, SPLITS)
    random = np.random.RandomState([seed, SPLITS.index(split), index])
    count = random.randint(fewest, most + 1)
    shapes = random.permutation(len(SHAPES))[:count]
    colours = _colours(seed, index, split)[:count]
    radii = radii or (round(size * _SMALLEST / 128), round(size * _LARGEST / 128))
    places = _places(random, 2 * count, size, radii, checks.positive("step", step))
    made = (
        Pair(SHAPES[shape], int(colour), key, lock)
        for shape, colour, key, lock in zip(shapes, colours, places[::2], places[1::2], strict=True)
    )
    near, far = (_dark_colour(random) for _ in range(2))
    return Scene(size, tuple(made), near, far, int(random.randint(2**31 - 1)))


def _dark_colour(random: np.random.RandomState) -> tuple[int, int, int]:
    red, green, blue = (int(level) for level in random.randint(8, 72, 3))
    return red, green, blue


def _colours(seed: int, index: int, split: str) -> list[int]:
    """Return a colour for each pair: dealt so that in every four pictures each pair takes each colour once."""
    random = np.random.RandomState([seed, SPLITS.index(split), index // len(COLOURS), 1])
    return [int(random.permutation(len(COLOURS))[index % len(COLOURS)]) for _ in SHAPES]


def _places(
    random: np.random.RandomState, count: int, size: int, radii: tuple[int, int], step: int
) -> list[Place]:
    smallest, largest = radii
    for _ in range(_TRIES):
        places: list[Place] = []
        for _ in range(_TRIES):
            radius = int(random.randint(smallest, largest + 1))
            lowest, highest = -(-(radius + 2) // step), (size - radius - 3) // step
            row, column = (int(number) * step for number in random.randint(lowest, highest + 1, 2))
            # Squares around the shapes, not the shapes themselves: exact with whole numbers, and boxes stay apart too.
            if all(max(abs(row - p.row), abs(column - p.column)) > radius + p.radius + 1 for p in places):
                places.append(Place(row, column, radius))
            if len(places) == count:
                return places
    raise checks.refuse("pairs", count // 2, f"do not fit into {size} pixels", "Use fewer pairs.")


def render(scene: Scene) -> UInt8[np.ndarray, "size size 3"]:
    """Return the picture of a scene: RGB, 0 to 255."""
    picture = _background(scene)
    for pair in scene.pairs:
        _paint(picture, pair.shape, pair.key, tuple(COLOURS.values())[pair.colour], outline=False)
        _paint(picture, pair.shape, pair.lock, WHITE, outline=True)
    return picture


def boxes(scene: Scene) -> list[Box]:
    """Return the boxes of a scene, key then lock for each pair, tight to the drawn pixels."""
    found = []
    for pair in scene.pairs:
        found.append(_box(0, pair.shape, pair.key, outline=False))
        found.append(_box(1 + pair.colour, pair.shape, pair.lock, outline=True))
    return found


def _background(scene: Scene) -> UInt8[np.ndarray, "size size 3"]:
    size = scene.size
    ramp = np.arange(size, dtype=np.int32)
    share = (ramp[:, None] + ramp[None, :])[..., None]
    near, far = (np.array(corner, dtype=np.int32) for corner in (scene.near, scene.far))
    picture = near + (far - near) * share // (2 * size)
    cells = np.random.RandomState(scene.texture).randint(0, 9, (-(-size // 8), -(-size // 8)))
    picture += cells.repeat(8, 0).repeat(8, 1)[:size, :size, None]
    return picture.astype(np.uint8)


def _paint(
    picture: UInt8[np.ndarray, "size size 3"],
    shape: str,
    place: Place,
    colour: tuple[int, int, int],
    outline: bool,
) -> None:
    reach = place.radius + 1
    window = picture[
        place.row - reach : place.row + reach + 1, place.column - reach : place.column + reach + 1
    ]
    covered = coverage(shape, place.radius, outline)[..., None].astype(np.int32)
    mixed = window * (FULL - covered) + np.array(colour, dtype=np.int32) * covered
    window[:] = (mixed + FULL // 2) // FULL


def _box(label: int, shape: str, place: Place, outline: bool) -> Box:
    drawn = coverage(shape, place.radius, outline) > 0
    rows, columns = np.flatnonzero(drawn.any(1)), np.flatnonzero(drawn.any(0))
    top, left = place.row - place.radius - 1, place.column - place.radius - 1
    return Box(
        label,
        left + int(columns[0]),
        top + int(rows[0]),
        left + int(columns[-1]) + 1,
        top + int(rows[-1]) + 1,
    )


def stream(
    seed: int,
    count: int,
    split: str = "train",
    size: int = 128,
    pairs: tuple[int, int] = (2, 4),
    radii: tuple[int, int] | None = None,
    step: int = 1,
) -> Iterator[tuple[Scene, UInt8[np.ndarray, "size size 3"]]]:
    """Return an iterator over the first `count` scenes of a split with their pictures, made as they are asked for."""
    for index in range(count):
        scene = draw_scene(seed, index, split, size, pairs, radii, step)
        yield scene, render(scene)


def fingerprint(seed: int, count: int = 8, size: int = 128) -> str:
    """Return the SHA-256 of the first pictures' pixels and boxes: equal on every platform for an equal seed."""
    digest = hashlib.sha256()
    for scene, picture in stream(seed, count, size=size):
        digest.update(picture.tobytes())
        digest.update(json.dumps([asdict(box) for box in boxes(scene)]).encode())
    return digest.hexdigest()


def generate(
    root: str | Path, train: int = 256, val: int = 64, seed: int = 0, size: int = 128, test: int = 0
) -> Path:
    """Write a data set in YOLO format under `root` and return the path of its `data.yaml`.

    Pictures that are there already are kept, so a run that was stopped goes on where it was. A folder that was made
    with another seed or size is refused.

    Args:
        root: Folder for images/, labels/, data.yaml and card.json.
        train: Pictures to train on.
        val: Pictures to validate on.
        seed: Seed of the set; validation pictures never repeat training pictures.
        size: Height and width in pixels.
        test: Pictures held back for a last test.

    Raises:
        ValueError: A count is negative, nothing is to be written, or `root` holds another set.
        OSError: The disk has too little room.
    """
    from tqdm.auto import tqdm

    root, counts = Path(root), dict(zip(SPLITS, (train, val, test), strict=True))
    if min(counts.values()) < 0 or train + val < 1:
        raise checks.refuse(
            "train, val, test", tuple(counts.values()), "must not be negative or all 0", "Use 256, 64, 0."
        )
    _check_room(root, sum(counts.values()), size)
    card = {"name": "Keys & Locks", "seed": seed, "size": size, "fingerprint": fingerprint(seed, size=size)}
    _check_same_set(root, card)
    with tqdm(total=sum(counts.values()), desc="Keys & Locks", unit=" pictures", disable=None) as bar:
        for split, count in counts.items():
            for index in range(count):
                _write(root, split, index, seed, size)
                bar.update()
    _write_yaml(root, [split for split, count in counts.items() if count])
    card |= {
        "pictures": counts,
        "classes": list(CLASSES),
        "objects": count_objects(root),
        "licence": "CC0-1.0",
    }
    said = (
        f"--train {train} --val {val}" + (f" --test {test}" if test else "") + f" --seed {seed} --size {size}"
    )
    card["made by"] = f"python -m mqa_lib data generate ROOT {said}"
    _replace(root / "card.json", json.dumps(card, indent=2) + "\n")
    return root / "data.yaml"


def count_objects(root: str | Path) -> dict[str, dict[str, int]]:
    """Return how many objects of each class the label files of each split hold."""
    counts = {}
    for folder in sorted(folder for folder in Path(root, "labels").iterdir() if folder.is_dir()):
        labels = [
            int(line.split()[0])
            for file in folder.glob("*.txt")
            for line in file.read_text(encoding="utf-8").splitlines()
        ]
        counts[folder.name] = {name: labels.count(index) for index, name in enumerate(CLASSES)}
    return counts


def _write(root: Path, split: str, index: int, seed: int, size: int) -> None:
    from PIL import Image

    image, label = root / "images" / split / f"{index:06d}.png", root / "labels" / split / f"{index:06d}.txt"
    if image.exists() and label.exists():
        return
    for file in (image, label):
        file.parent.mkdir(parents=True, exist_ok=True)
    scene = draw_scene(seed, index, split, size)
    lines = [
        f"{box.label} {(box.left + box.right) / 2 / size:.6f} {(box.top + box.bottom) / 2 / size:.6f} "
        f"{(box.right - box.left) / size:.6f} {(box.bottom - box.top) / size:.6f}"
        for box in boxes(scene)
    ]
    drafts = {label: label.with_suffix(".part"), image: image.with_suffix(".part")}
    drafts[label].write_text("\n".join(lines) + "\n", encoding="utf-8")
    Image.fromarray(render(scene)).save(drafts[image], format="PNG", optimize=True)
    for file, draft in drafts.items():  # a file that a kill cut off is never taken for a whole one
        draft.replace(file)


def _write_yaml(root: Path, splits: list[str]) -> None:
    names = "\n".join(f"  {index}: {name}" for index, name in enumerate(CLASSES))
    rows = "\n".join(f"{split}: images/{split}" for split in splits)
    _replace(root / "data.yaml", f"# Keys & Locks, generated; see card.json\n{rows}\nnames:\n{names}\n")


def _replace(file: Path, text: str) -> None:
    """Write a file at one go: another process may be training on the set, and a kill leaves the one or the other."""
    draft = file.with_suffix(f".{os.getpid()}.part")
    draft.write_text(text, encoding="utf-8")
    draft.replace(file)


def _check_same_set(root: Path, card: dict[str, object]) -> None:
    file = root / "card.json"
    if not file.exists():
        root.mkdir(parents=True, exist_ok=True)
        _replace(file, json.dumps(card) + "\n")
        return
    there = json.loads(file.read_text(encoding="utf-8"))
    if any(there.get(key) != card[key] for key in ("seed", "size", "fingerprint")):
        way_out = "Use an empty folder, or the seed and size that its card names."
        raise checks.refuse(
            "root", root, "holds a set made with another seed or size (see its card.json)", way_out
        )


def _check_room(root: Path, pictures: int, size: int) -> None:
    existing = next(folder for folder in (root.absolute(), *root.absolute().parents) if folder.exists())
    needed, free = pictures * size * size, shutil.disk_usage(existing).free
    if free < needed:
        raise OSError(
            f"`root` (={root}) needs about {needed / 1e6:.0f} MB and its disk has {free / 1e6:.0f} MB free. "
            "Free some room or name a folder on another disk."
        )
