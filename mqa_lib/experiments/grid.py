"""A grid of runs in one small file: variants × seeds × data × schedule, read whole before anything starts.

The file is YAML. `schedule` has arguments of `mqa_lib.rtdetr.train.Recipe`; an arm may replace any of them, and have
seeds and data of its own. Two arms that differ only in when they are done share a name by `as`::

    data: {keys_and_locks: {train: 2400, val: 320, test: 480, seed: 1, size: 128}}
    schedule: {epochs: 10, imgsz: 128, batch: 16, lr0: 0.0005}
    seeds: [0, 1, 2]
    threads: 1
    arms:
      from-scratch: {variants: [rtdetr-nano-stock, rtdetr-nano-mobile-mqa]}
      slowly: {variants: [rtdetr-nano-stock, rtdetr-nano-mobile-mqa], schedule: {lr0: 0.0001}}

`data` is one of `keys_and_locks` (arguments of `generate`), `bccd` (a folder, or nothing to fetch it) and `path` (a
file or folder in YOLO or VOC format, seen from the grid's folder).
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from mqa_lib import checks
from mqa_lib.datasets import inspect

_KEYS = ("data", "schedule", "seeds", "threads", "arms")
_ARM_KEYS = ("as", "variants", "schedule", "seeds", "data")
_DATA = ("keys_and_locks", "bccd", "path")
_LEAST = {"train": 1, "val": 1, "test": 0, "seed": 0, "size": 48}  # of `keys_and_locks`
_SEEDS = 2**31  # NumPy's generator takes not much more, and the runs count on from the seed
_NO_FILE_NAME = '<>:"/\\|?*'  # not in names of files, here or on another system


@dataclass(frozen=True)
class Run:
    """One run of a grid.

    Args:
        arm: What sets it apart beside variant and seed, such as "from-scratch".
        recipe: Every argument of its `Recipe`.
        data: Its data, as the grid says it.
        identity: A hash of all that decides the result but for the library's version.
    """

    arm: str
    recipe: dict[str, Any]
    data: dict[str, Any]
    identity: str

    @property
    def title(self) -> str:
        """What to call it in a line of progress."""
        return f"{Path(self.recipe['model']).stem}, {self.arm}, seed {self.recipe['seed']}"

    @property
    def name(self) -> str:
        """The name of its folder and its record; another recipe or other data give another one."""
        model, seed = Path(self.recipe["model"]).stem, self.recipe["seed"]
        return f"{model}-{self.arm}-seed{seed}-{self.identity}"


@dataclass(frozen=True)
class Grid:
    """All runs of an experiment, arm by arm, and in each every variant with one seed before any with the next.

    Args:
        name: The experiment's name, which is its file's.
        threads: Threads that a run computes with.
        runs: The runs.
    """

    name: str
    threads: int
    runs: tuple[Run, ...]


def read_grid(file: str | Path) -> Grid:
    """Return the grid of a file; everything in it is looked at now.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: It is no grid: an entry or a variant is not known, a number is none, a run comes twice, or arms of
            one name are not alike.
    """
    import yaml

    file = Path(file)
    if not file.exists():
        raise FileNotFoundError(
            f"`file` (={file}) does not exist. Grids of this project are in data/experiments."
        )
    try:
        text = file.read_text(encoding="utf-8")
        _check_said_once(file, yaml.compose(text, yaml.SafeLoader))
        said = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise checks.refuse("file", file.name, f"is not YAML in UTF-8 ({reason})", "Mend it.") from error
    if not isinstance(said, dict):
        rule = f"must hold entries with a name, and holds {'nothing' if said is None else repr(said)}"
        raise checks.refuse("file", file.name, rule, f"Use some of: {', '.join(_KEYS)}.")
    said = _entries("file", said, _KEYS)
    if not isinstance(said.get("arms"), dict) or not said["arms"]:
        way_out = "Write one as `arms: {plain: {variants: [rtdetr-nano-stock]}}`."
        raise checks.refuse("arms", said.get("arms"), "must name at least one arm", way_out)
    arms = {
        arm: {**said, **_entries(f"arms: {arm}", own, _ARM_KEYS), "schedule": _merged(said, own)}
        for arm, own in said["arms"].items()
    }
    runs = tuple(_runs(arms, file.parent))
    _check_told_apart(file, runs)
    threads = checks.positive("threads", said.get("threads", 1))
    return Grid(file.stem, threads, runs)


def _check_said_once(file: Path, node: Any) -> None:
    """Refuse a name that stands twice among entries: YAML would take the last one, and runs would be missing.

    Raises:
        ValueError: A name stands twice.
    """
    import yaml

    if isinstance(node, yaml.MappingNode):
        names = [str(key.value) for key, _ in node.value]
        if twice := next((name for name in names if names.count(name) > 1), None):
            way_out = "Leave one of them out, or name it anew."
            raise checks.refuse("file", file.name, f"has two entries {twice} side by side", way_out)
        for _, value in node.value:
            _check_said_once(file, value)


def _runs(arms: Mapping[str, dict[str, Any]], home: Path) -> Iterator[Run]:
    from mqa_lib.rtdetr.recipe import Recipe

    for arm, said in arms.items():
        _check_schedule(said["schedule"])
        _check_arm(arm, said)
    _check_known(arms)
    contents = {name: _content(name, home) for said in arms.values() for name in said["variants"]}
    data = {arm: _data(said.get("data"), home) for arm, said in arms.items()}
    defaults = _settable()
    for arm, said in arms.items():
        for seed in said["seeds"]:
            for name in said["variants"]:
                model = name if Path(name).suffix == "" else str((home / name).absolute())
                recipe = asdict(Recipe(model, seed, **said["schedule"]))
                # What stands at its default is left out: a recipe can get a new entry, and runs keep their names.
                known = {key: value for key, value in recipe.items() if value != defaults.get(key)}
                known["model"] = contents[name]
                decides = json.dumps([known, data[arm][1]], sort_keys=True, default=str)
                identity = hashlib.sha256(decides.encode()).hexdigest()[:8]
                yield Run(said.get("as", arm), recipe, data[arm][0], identity)


def _check_known(arms: Mapping[str, dict[str, Any]]) -> None:
    """Refuse all names of variants that are not known, in one sentence.

    Raises:
        ValueError: There are some.
    """
    from mqa_lib.rtdetr import MODELS

    named = dict.fromkeys(name for said in arms.values() for name in said["variants"])
    if unknown := [name for name in named if not Path(name).suffix and name not in MODELS]:
        rule = "are not known" if len(unknown) > 1 else "is not known"
        way_out = f"Use some of: {', '.join(MODELS)}; or the path of a model file."
        raise checks.refuse("variants", ", ".join(unknown), rule, way_out)


def _check_arm(arm: Any, said: Mapping[str, Any]) -> None:
    """Refuse an arm whose variants or seeds are no lists of such, or whose name no file could have.

    Raises:
        ValueError: One of them is not what it should be.
    """
    where, name = ("as", said["as"]) if "as" in said else ("arms", arm)
    if not isinstance(name, str) or not name.strip() or set(name) & set(_NO_FILE_NAME):
        rule = f"must be a name in letters, without any of {' '.join(_NO_FILE_NAME)}"
        raise checks.refuse(where, name, rule, "Records are named after it: use one such as from-scratch.")
    for key in ("variants", "seeds"):
        if not isinstance(said.get(key), list) or not said[key]:
            raise checks.refuse(key, said.get(key), f"must be a list, in arm {arm}", "Write it as [a, b].")
    for variant in said["variants"]:
        if not isinstance(variant, str):
            way_out = "Use one such as rtdetr-nano-stock, or the path of a model file."
            raise checks.refuse("variants", variant, f"must be names, in arm {arm}", way_out)
    for seed in said["seeds"]:
        if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < _SEEDS:
            rule = f"must be whole numbers from 0 to {_SEEDS - 1}"
            raise checks.refuse("seeds", seed, rule, "Use [0, 1, 2].")


def _settable() -> dict[str, Any]:
    """Return what a schedule can set, with the values that it has otherwise."""
    from mqa_lib.rtdetr.recipe import Recipe

    return {field.name: field.default for field in fields(Recipe) if field.name not in ("model", "seed")}


def _check_schedule(schedule: dict[str, Any]) -> None:
    """Refuse now what a training would only stumble over when its turn comes.

    Raises:
        ValueError: A number is none, or too small.
    """
    from mqa_lib.rtdetr.recipe import check_size

    for key, value in schedule.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if key == "keeps_pairs":
            if not isinstance(value, bool):
                raise checks.refuse(
                    key, value, "must be true or false", "Write one of the two, without quotes."
                )
        elif key in ("lr0", "lrf", "stop_at"):
            # a share of 0 trains all epochs
            if not number or (not 0 < value <= 1 and (key, value) != ("stop_at", 0)):
                way_out = "Write it as 0.0005; YAML takes 5e-4 for a word."
                raise checks.refuse(key, value, "must be a number above 0 and at most 1", way_out)
        elif not number or isinstance(value, float) or value < 1:
            raise checks.refuse(key, value, "must be a whole number of at least 1", "Use 1 or more.")
        elif key == "imgsz":
            check_size(value)


def _check_told_apart(file: Path, runs: Sequence[Run]) -> None:
    """Refuse runs whose records could not be told apart, or would be taken for seeds of one recipe and are not.

    Raises:
        ValueError: A run comes twice, or arms that share a name differ in more than in variants and seeds.
    """
    titles = [run.title for run in runs]
    if twice := sorted({run.name for run in runs if titles.count(run.title) > 1}):
        raise checks.refuse(
            "file",
            file.name,
            f"holds a run twice: {', '.join(twice)}",
            "Leave one of them out, or name its arm anew.",
        )
    schedules: dict[str, Any] = {}
    for run in runs:
        own = run.data, {key: value for key, value in run.recipe.items() if key not in ("model", "seed")}
        if schedules.setdefault(run.arm, own) != own:
            rule = "names arms that differ in schedule or data, so their runs would be compared as if they were alike"
            raise checks.refuse("as", run.arm, rule, "Give each of them a name of its own.")


def _entries(where: str, said: Any, known: Any) -> dict[str, Any]:
    if not isinstance(said, dict):
        raise checks.refuse(where, said, "must be entries with a name", f"Use some of: {', '.join(known)}.")
    for key in said:
        if key not in known:
            raise checks.refuse(where, key, "is not known there", f"Use one of: {', '.join(known)}.")
    return said


def _merged(said: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    both = (said.get("schedule") or {}, own.get("schedule") or {})
    return {key: value for part in both for key, value in _entries("schedule", part, _settable()).items()}


def _content(name: str, home: Path) -> Any:
    """Return what a variant's file says, so that a model file that was changed makes another run.

    Raises:
        ValueError: The name is not known.
        FileNotFoundError: The file does not exist.
    """
    import yaml

    from mqa_lib.rtdetr.build import source

    if Path(name).suffix == "":
        # not as ultralytics reads it, who adds where this machine keeps the file
        return yaml.safe_load(source(name).read_text(encoding="utf-8"))
    return hashlib.sha256(source(home / name).read_bytes()).hexdigest()


def _data(said: Any, home: Path) -> tuple[dict[str, Any], Any]:
    """Return the data as a run keeps them, and what tells them apart from others."""
    entries = _entries("data", said, _DATA)
    if len(entries) != 1:
        raise checks.refuse("data", entries, "must be one of several", f"Use one of: {', '.join(_DATA)}.")
    kind, settings = next(iter(entries.items()))
    if kind == "keys_and_locks":
        for key, value in _entries(kind, settings or {}, _LEAST).items():
            if not isinstance(value, int) or isinstance(value, bool) or value < _LEAST[key]:
                rule = f"must be a whole number of at least {_LEAST[key]}"
                raise checks.refuse(f"{kind}: {key}", value, rule, f"Use {_LEAST[key]} or more.")
        return {kind: settings or {}}, entries
    if kind == "bccd" and settings in (None, ""):
        from mqa_lib.datasets import bccd

        return {kind: None}, {kind: bccd.COMMIT}
    if not isinstance(settings, str):
        raise checks.refuse(f"data: {kind}", settings, "must be a path", "Write it as seen from the grid.")
    path = (home / settings).absolute()
    if not path.exists():
        raise FileNotFoundError(f"`data` (={settings}) does not exist beside the grid. Check its path.")
    if kind == "bccd":
        from mqa_lib.datasets import bccd

        return {kind: str(path)}, {kind: bccd.COMMIT}
    return {kind: str(inspect.found(path))}, {kind: inspect.fingerprint(path)}
