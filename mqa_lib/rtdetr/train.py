"""Training through ultralytics' own trainer: checked data first, atomic checkpoints, resumable, a record as it goes."""

import contextlib
import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm
from ultralytics.nn.tasks import load_checkpoint
from ultralytics.utils import RANK, SETTINGS

from mqa_lib import checks, locking, published
from mqa_lib.datasets import inspect, yolo
from mqa_lib.rtdetr import article, own_set
from mqa_lib.rtdetr.build import MODELS, load, quietly, set_queries, source
from mqa_lib.rtdetr.fit import check_variant
from mqa_lib.rtdetr.recipe import Recipe, arguments, check_size
from mqa_lib.rtdetr.trainer import EPOCH_MEASURED, Diverged, Paused, trainer_for
from mqa_lib.rtdetr.weights import as_checkpoint
from mqa_lib.timing import commit, machine

# pictures that ultralytics' mosaic puts together
_MOSAIC = 4
_PACKAGES = ("torch", "torchvision", "ultralytics", "numpy", "mqa-lib")


class _Recorder:
    """Writes the record after every epoch, going on where a killed run left it."""

    def __init__(self, path: Path, record: dict[str, Any]) -> None:
        self.path, self.record, self.cpu_start = path, record, time.process_time()
        if path.exists():
            self.record |= read_record(path)  # commit and machine stay those that it began with

    def on_train_start(self, trainer: Any) -> None:
        self.cpu_start = time.process_time()
        # What was gone on with is not quite what it would be unstopped: weights come back in half precision.
        if trainer.start_epoch:
            self.record["resumed after"] = [*self.record.get("resumed after", []), trainer.start_epoch]

    def epoch_measured(self, trainer: Any) -> None:
        done = [entry for entry in self.record["epochs"] if entry["epoch"] <= trainer.epoch]
        before, cpu_before = (done[-1].get(key, 0.0) if done else 0.0 for key in ("seconds", "cpu_seconds"))
        entry = {
            "epoch": trainer.epoch + 1,
            "pictures": (trainer.epoch + 1) * len(trainer.train_loader.dataset),
            "seconds": round(before + time.time() - trainer.epoch_time_start, 1),
            "cpu_seconds": round(cpu_before + time.process_time() - self.cpu_start, 1),
            **measured(trainer.validator),
            "losses": {name: round(float(value), 4) for name, value in trainer.tloss.items()},
        }
        self.record["epochs"] = [*done, entry]
        self.cpu_start = time.process_time()
        self.write()

    def write(self) -> None:
        if RANK > 0:  # of several processes the first one writes
            return
        draft = self.path.with_suffix(".part")
        draft.write_text(json.dumps(_finite(self.record), indent=1, allow_nan=False) + "\n")
        draft.replace(self.path)


def _finite(value: Any) -> Any:
    """Return the same with None for every number that JSON does not know: NaN and the infinities."""
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class _Bar:
    """One progress bar over all batches of a training, with the loss beside it."""

    def __init__(self, name: str) -> None:
        self._bar = tqdm(desc=name, unit=" batches", disable=None)

    def __enter__(self) -> "_Bar":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def __getstate__(self) -> dict[str, Any]:
        """Return what a process for another GPU gets: a bar that stays silent, since only one can be drawn."""
        return {"_bar": tqdm(disable=True)}

    def on_train_start(self, trainer: Any) -> None:
        self._bar.reset((trainer.epochs - trainer.start_epoch) * len(trainer.train_loader))

    def on_train_batch_end(self, trainer: Any) -> None:
        self._bar.set_postfix_str(f"loss {trainer.loss.detach().item():.2f}", refresh=False)
        self._bar.update()


def box_metrics(metrics: Any, names: dict[int, str]) -> dict[str, Any]:
    """Return mAP50 and mAP50-95, over all classes and for each, from ultralytics' metrics of boxes."""
    box = metrics.box
    each = {
        names[int(index)]: {"mAP50": round(float(ap50), 4), "mAP50-95": round(float(ap), 4)}
        for index, ap50, ap in zip(box.ap_class_index, box.ap50, box.ap, strict=True)
    }
    return {"mAP50": round(float(box.map50), 4), "mAP50-95": round(float(box.map), 4), "classes": each}


def measured(validator: Any) -> dict[str, Any]:
    """Return what a validation found: mAP50, mAP50-95, both for each class, and the colours of locks, if any."""
    found = box_metrics(validator.metrics, validator.names)
    return found | ({"lock colours": asdict(validator.colours)} if validator.colours.locks else {})


@published.in_blocks()
def train(
    recipe: Recipe,
    data: str | Path,
    folder: str | Path,
    one_bar: bool | str = False,
    after_epoch: Callable[[dict[str, Any]], bool] | None = None,
    stop_at_nan: bool = False,
    **options: Any,
) -> dict[str, Any]:
    """Train, or go on with a training that was stopped, and return its record.

    The article's layer computes its numbers in blocks meanwhile, so the seconds of its runs are no measure of its cost.

    Args:
        recipe: What to train and how.
        data: A data set in YOLO or VOC format, by its file or folder; all of it is checked first.
        folder: Where weights/last.pt, weights/best.pt and record.json go, and a set of VOC as YOLO has it. If a
            run was stopped there, it is resumed.
        one_bar: Show one progress bar instead of ultralytics' own tables, which is better to read in a notebook; a
            text is written before it.
        after_epoch: Called with the record when an epoch's checkpoint is written. If it returns true, the training
            stops there, the record says that it is not finished, and the same call goes on with it.
        stop_at_nan: Stop at the first loss that is not finite. Otherwise ultralytics goes back an epoch, three times.
        **options: Further arguments of ultralytics' `train`, such as `device` or `workers`.

    Raises:
        DataError: The data set is not fit to be trained on.
        ValueError: The model is not known, or the folder holds a run of another recipe.
        Diverged: The loss is not finite, and `stop_at_nan` was given.
        Busy: Another process trains in the folder.
        OSError: The disk is full.
    """
    for key in ("epochs", "batch"):
        checks.positive(key, getattr(recipe, key))
    check_size(recipe.imgsz)
    source(recipe.model)
    folder = Path(folder).absolute()
    own_set.check_apart(Path(data), folder)
    with _alone_in(folder.resolve()):
        return _train_alone(recipe, data, folder, one_bar, after_epoch, stop_at_nan, options)


def _train_alone(
    recipe: Recipe,
    data: str | Path,
    folder: Path,
    one_bar: bool | str,
    after_epoch: Callable[[dict[str, Any]], bool] | None,
    stop_at_nan: bool,
    options: dict[str, Any],
) -> dict[str, Any]:
    origin = source(recipe.model)
    report = inspect.read(data).raise_if_bad()
    record_file = folder / "record.json"
    started = {"recipe": asdict(recipe), "data": own_set.card(Path(data), report)}
    if record_file.exists() and _has_begun(folder, there := read_record(record_file)):
        _check_same_run(folder, there, started)
    else:
        # a start that was refused, or stopped before its first epoch, leaves the folder free for another
        record_file.unlink(missing_ok=True)
    # only now, so that what is refused leaves what an earlier training has there
    report = own_set.written(report, folder)
    for note in (*report.notes, *inspect.duplicates(report)):
        print(f"{Path(data).name}: {note}", file=sys.stderr)
    provenance = {"commit": commit(), "machine": machine(_PACKAGES), "finished": False}
    recorder = _Recorder(record_file, {**started, **provenance, "epochs": []})
    if recorder.record["finished"]:
        return recorder.record
    folder.mkdir(parents=True, exist_ok=True)
    stage = _stage(folder, recipe, recorder.record["epochs"])
    if stage != "finished":
        if origin.suffix != ".yaml":
            options.setdefault("pretrained", str(as_checkpoint(load(origin), folder / "start.pt")))
        recorder.write()
        resolved = yolo.write_resolved(report, folder / "data.yaml")
        events = _events(recorder, after_epoch, stop_at_nan, recipe.stop_at)
        try:
            most = max(report.most.values(), default=0)
            _run(recipe, resolved, folder, events, one_bar, {**options, "resume": stage == "resumable"}, most)
        except Paused:
            return recorder.record
        recorder.record["epochs"] = read_record(record_file)["epochs"]  # perhaps written by another process
    recorder.record["finished"] = True
    recorder.write()
    return recorder.record


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Let nobody else train in a folder meanwhile; the lock lies beside it, since bad data leave no folder."""
    holding = contextlib.ExitStack()
    try:
        holding.enter_context(locking.hold(folder.with_name(f".{folder.name}.lock")))
    except locking.Busy as error:
        said = f"Another training is at work in `folder` (={folder.name}): {error}"
        raise locking.Busy(f"{said} Wait for it, or use another folder.") from error
    with holding:
        yield


def read_record(path: Path) -> dict[str, Any]:
    """Return a run's record.

    Raises:
        ValueError: The file is cut off or is no record.
    """
    try:
        said = json.loads(path.read_text())
        if not isinstance(said, dict) or not isinstance(said.get("epochs"), list):
            raise ValueError("it has no epochs")
        return {"finished": False, **said}
    except ValueError as error:
        raise ValueError(
            f"`{path}` is not a run's record ({error}). Remove the folder and train again."
        ) from error


def _has_begun(folder: Path, record: dict[str, Any]) -> bool:
    """Return whether a folder holds an epoch or a checkpoint, and so a run that another one must not write over."""
    return bool(record["epochs"]) or (folder / "weights" / "last.pt").exists()


def too_few_queries(model: Any, most: int, pictures: int) -> str:
    """Return a sentence where a picture may hold more objects than the model can find, else nothing.

    Args:
        model: The detector; only RT-DETR has queries.
        most: The largest number of objects in a picture of the data set.
        pictures: How many pictures augmentation puts together.
    """
    queries = getattr(model.model.model[-1], "num_queries", most * pictures)
    if queries >= most * pictures:
        return ""
    together = f" Mosaic puts {pictures} together." if pictures > 1 else ""
    return (
        f"A picture holds up to {most} objects.{together} The model has {queries} queries and finds no more than that: "
        f"use `--num-queries {most * pictures}` (`Recipe(num_queries={most * pictures})`)."
    )


def _stage(folder: Path, recipe: Recipe, epochs: list[dict[str, Any]]) -> str:
    """Return what the checkpoint in `folder` allows after these epochs: "new", "resumable" or "finished"."""
    last = folder / "weights" / "last.pt"
    if not last.exists():
        return "new"
    # 0: its optimiser has been taken out, all epochs are done
    done = load_checkpoint(last)[1].get("epoch", -1) + 1
    # the record may be an epoch ahead of the checkpoint
    solved = recipe.stop_at and is_solved([one for one in epochs if one["epoch"] <= done], recipe.stop_at)
    return "finished" if done == 0 or done >= recipe.epochs or solved else "resumable"


def _run(
    recipe: Recipe,
    data: Path,
    folder: Path,
    events: dict[str, Callable[[Any], None]],
    one_bar: bool | str,
    options: dict[str, Any],
    most: int,
) -> None:
    resumable = options.pop("resume")
    model = load(folder / "weights" / "last.pt" if resumable else source(recipe.model))
    if resumable and recipe.model in MODELS:
        wanted = load(recipe.model)
        if recipe.num_queries:
            set_queries(wanted, recipe.num_queries)
        check_variant(model.model, wanted.model.yaml, recipe.model)
    if recipe.num_queries and not resumable:
        set_queries(model, recipe.num_queries)
    if said := too_few_queries(model, most, 1 if recipe.keeps_pairs else _MOSAIC):
        print(said, file=sys.stderr)
    for event, call in events.items():
        model.add_callback(event, call)
    if not article.takes_channels_last(model.model):
        options["channels_last"] = False
    # The checkpoint knows the rest; where things are it knows as well, but they may have been moved since.
    moved = {"resume": True, "data": str(data), "save_dir": str(folder)}
    wanted = moved if resumable else {**arguments(recipe, data, folder), **options}
    with _without_idle_ray():
        if not one_bar:
            model.train(trainer=trainer_for(model.model), **wanted)
            return
        with _Bar(one_bar if isinstance(one_bar, str) else f"train {recipe.model}") as bar, quietly():
            for event in ("on_train_start", "on_train_batch_end"):
                model.add_callback(event, getattr(bar, event))
            model.train(trainer=trainer_for(model.model), verbose=False, **wanted)


def _events(
    recorder: _Recorder,
    after_epoch: Callable[[dict[str, Any]], bool] | None,
    stop_at_nan: bool,
    stop_at: float,
) -> dict[str, Callable[[Any], None]]:
    """Return what is to be called when; only what was asked for, since several processes pickle it."""
    events: dict[str, Callable[[Any], None]] = {
        EPOCH_MEASURED: recorder.epoch_measured,
        "on_train_start": recorder.on_train_start,
        "on_pretrain_routine_end": _lay_out,
    }
    if after_epoch is not None or stop_at:

        def saved(trainer: Any) -> None:
            trainer.stop |= bool(stop_at) and is_solved(recorder.record["epochs"], stop_at)
            paused = after_epoch is not None and after_epoch(recorder.record)
            if paused and trainer.epoch + 1 < trainer.epochs and not trainer.stop:
                raise Paused

        events["on_model_save"] = saved
    if stop_at_nan:
        events |= {"on_train_batch_end": _check_batch, "on_train_epoch_end": _check_loss}
    return events


def is_solved(epochs: list[dict[str, Any]], share: float) -> bool:
    """Return whether the last two epochs both name at least this share of the found locks' colours."""
    counts = [epoch["lock colours"] for epoch in epochs[-2:] if "lock colours" in epoch]
    return len(counts) == 2 and all(c["right"] >= share * max(c["found"], 1) for c in counts)


def _lay_out(trainer: Any) -> None:
    """Let the channels of a pixel lie together, in which convolutions on a CPU are faster."""
    if article.takes_channels_last(trainer.model):
        trainer.model.to(memory_format=torch.channels_last)


def _check_batch(trainer: Any) -> None:
    if not trainer.amp:  # with mixed precision a step whose numbers overflowed is left out, and all is well
        _check_loss(trainer)


def _check_loss(trainer: Any) -> None:
    if not trainer.loss.isfinite():
        raise Diverged(f"The loss is {trainer.loss.item()} in epoch {trainer.epoch + 1}.")


@contextlib.contextmanager
def _without_idle_ray() -> Iterator[None]:
    """Keep ultralytics from importing Ray for its tuner, which takes seconds, where Ray is not at work already."""
    before = SETTINGS["raytune"]
    if "ray" not in sys.modules:
        dict.__setitem__(SETTINGS, "raytune", False)  # past its own setter, which would write a file
    try:
        yield
    finally:
        dict.__setitem__(SETTINGS, "raytune", before)


def _check_same_run(folder: Path, there: dict[str, Any], wanted: dict[str, Any]) -> None:
    for part in ("recipe", "data"):
        for key, value in wanted[part].items():
            # How the data were made is told in other words by another version, and older ones knew no fingerprint of
            # a set of the user's own; what they are is compared.
            if key == "made by" or (key == "fingerprint" and key not in there[part]):
                continue
            if there[part].get(key) != value:
                rule = (
                    f"holds a run with {part} `{key}` = {there[part].get(key)!r}, and {value!r} was asked for"
                )
                raise checks.refuse("folder", folder.name, rule, "Use another folder or the same settings.")


def models() -> list[str]:
    """Return the names of the models that `Recipe` takes."""
    return sorted(MODELS)
