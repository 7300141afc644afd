"""Training through ultralytics' own trainer: checked data first, atomic checkpoints, resumable, a record as it goes."""

import json
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm
from ultralytics.models.rtdetr.train import RTDETRTrainer
from ultralytics.nn.tasks import load_checkpoint
from ultralytics.utils import RANK

from mqa_lib import checks
from mqa_lib.datasets import yolo
from mqa_lib.rtdetr.build import MODELS, content_of, load, quietly, source
from mqa_lib.rtdetr.fit import check_variant
from mqa_lib.rtdetr.weights import as_checkpoint
from mqa_lib.timing import commit, machine

# Keys & Locks lives on colours and on pairs: mosaic would part keys from their locks, hue shifts would change classes.
KEEPS_PAIRS: dict[str, Any] = {
    "mosaic": 0.0,
    "hsv_h": 0.0,
    "hsv_s": 0.0,
    "hsv_v": 0.0,
    "translate": 0.0,
    "scale": 0.0,
}
KEEPS_PAIRS |= {"fliplr": 0.5, "flipud": 0.5, "erasing": 0.0, "auto_augment": None, "close_mosaic": 0}
EPOCH_MEASURED = "on_epoch_measured"  # an event of our own, before an epoch's checkpoint takes its place
_PACKAGES = ("torch", "torchvision", "ultralytics", "numpy", "mqa-lib")


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a training, but for the machine.

    Args:
        model: A name in `MODELS`, or a model file.
        seed: Seed of weights and of the order of pictures.
        epochs: Passes over the training pictures.
        imgsz: Height and width in pixels that pictures are brought to.
        batch: Pictures a step.
        lr0: Learning rate after one epoch of warm-up; it falls to a twentieth of itself along a cosine.
        pretrain_pictures: Pictures that the backbone sees before (see `mqa_lib.rtdetr.pretrain`); 0 for none.
        keeps_pairs: Use only augmentation that leaves colours and pairs alone; otherwise ultralytics' default.
    """

    model: str
    seed: int = 0
    epochs: int = 8
    imgsz: int = 128
    batch: int = 16
    lr0: float = 5e-4
    pretrain_pictures: int = 0
    keeps_pairs: bool = True


class Trainer(RTDETRTrainer):
    """ultralytics' trainer for RT-DETR, whose checkpoints a kill or a full disk cannot cut off.

    It lives in an importable module on purpose: a process that ultralytics starts for each GPU imports it, and with it
    the registration of our layers.
    """

    def train(self) -> None:
        """Train here, or in a process for each of several GPUs; the folder keeps what lies in it already.

        Before it starts those processes ultralytics would empty the folder, and with it record and data go.
        """
        if self.ddp:
            self.resume = True  # read by nothing but that; what the processes are told stands in `args`
        super().train()

    def save_model(self) -> bool:
        """Write the record and the checkpoints beside their places, then move them there; return whether they exist.

        The record comes first: a kill between the two leaves an entry that the resumed epoch replaces, and never an
        epoch without an entry.

        Raises:
            OSError: The disk is full; the checkpoints of the epoch before are untouched.
        """
        places = {name: getattr(self, name) for name in ("last", "best")}
        drafts = {name: place.with_suffix(".part") for name, place in places.items()}
        try:
            self.run_callbacks(EPOCH_MEASURED)
            self.last, self.best = drafts["last"], drafts["best"]
            saved = super().save_model()
        except OSError as error:
            for draft in drafts.values():
                draft.unlink(missing_ok=True)
            raise OSError(
                f"The checkpoint of epoch {self.epoch + 1} could not be written ({error.strerror}). "
                f"Free some room and start the same command again: it goes on after epoch {self.epoch}."
            ) from error
        finally:
            self.last, self.best = places["last"], places["best"]
        for name, draft in drafts.items():
            if draft.exists():
                draft.replace(places[name])
        return saved

    def final_eval(self) -> None:
        """Take the optimiser out of the checkpoints and measure the best one, working on copies until that is done.

        Raises:
            OSError: The disk is full; the checkpoints keep their optimiser and are whole.
        """
        if RANK > 0:  # one process writes the files; the others only help to measure
            super().final_eval()
            return
        places = {name: getattr(self, name) for name in ("last", "best")}
        drafts = {
            name: place.with_name(f"{name}-draft.pt") for name, place in places.items() if place.exists()
        }
        try:
            for name, draft in drafts.items():
                shutil.copy(places[name], draft)
                setattr(self, name, draft)
            super().final_eval()
        except OSError as error:
            for draft in drafts.values():
                draft.unlink(missing_ok=True)
            raise OSError(
                f"The final checkpoints could not be written ({error.strerror}). Free some room and start the same "
                "command again: the trained weights are kept."
            ) from error
        finally:
            self.last, self.best = places["last"], places["best"]
        for name, draft in drafts.items():
            draft.replace(places[name])


class _Recorder:
    """Writes the record after every epoch, going on where a killed run left it."""

    def __init__(self, path: Path, record: dict[str, Any]) -> None:
        self.path, self.record = path, record
        if path.exists():
            self.record |= {key: read_record(path)[key] for key in ("epochs", "finished")}

    def epoch_measured(self, trainer: Trainer) -> None:
        done = [entry for entry in self.record["epochs"] if entry["epoch"] <= trainer.epoch]
        before = done[-1]["seconds"] if done else 0.0
        entry = {
            "epoch": trainer.epoch + 1,
            "pictures": (trainer.epoch + 1) * len(trainer.train_loader.dataset),
            "seconds": round(before + time.time() - trainer.epoch_time_start, 1),
            **box_metrics(trainer.validator.metrics, trainer.validator.names),
            "losses": {name: round(float(value), 4) for name, value in trainer.tloss.items()},
        }
        self.record["epochs"] = [*done, entry]
        self.write()

    def write(self) -> None:
        if RANK > 0:  # of several processes the first one writes
            return
        draft = self.path.with_suffix(".part")
        draft.write_text(json.dumps(self.record, indent=1) + "\n")
        draft.replace(self.path)


class _Bar:
    """One progress bar over all batches of a training, with the loss beside it."""

    def __init__(self, name: str) -> None:
        self._bar = tqdm(desc=f"train {name}", unit=" batches", disable=None)

    def __enter__(self) -> "_Bar":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def __getstate__(self) -> dict[str, Any]:
        """Return what a process for another GPU gets: a bar that stays silent, since only one can be drawn."""
        return {"_bar": tqdm(disable=True)}

    def on_train_start(self, trainer: Trainer) -> None:
        self._bar.reset((trainer.epochs - trainer.start_epoch) * len(trainer.train_loader))

    def on_train_batch_end(self, trainer: Trainer) -> None:
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


def train(
    recipe: Recipe, data: str | Path, folder: str | Path, one_bar: bool = False, **options: Any
) -> dict[str, Any]:
    """Train, or go on with a training that was stopped, and return its record.

    Args:
        recipe: What to train and how.
        data: YAML file of a data set in YOLO format; all of it is checked first.
        folder: Where weights/last.pt, weights/best.pt and record.json go. If a run was stopped there, it is resumed.
        one_bar: Show one progress bar instead of ultralytics' own tables, which is better to read in a notebook.
        **options: Further arguments of ultralytics' `train`, such as `device` or `workers`.

    Raises:
        DataError: The data set is not fit to be trained on.
        ValueError: The model is not known, or the folder holds a run of another recipe.
        OSError: The disk is full.
    """
    origin = source(recipe.model)
    report = yolo.checked(data)
    folder = Path(folder).absolute()
    record_file = folder / "record.json"
    started = {"recipe": asdict(recipe), "data": _data_card(Path(data), report)}
    if record_file.exists():
        _check_same_run(folder, read_record(record_file), started)
    provenance = {"commit": commit(), "machine": machine(_PACKAGES), "finished": False}
    recorder = _Recorder(record_file, {**started, **provenance, "epochs": []})
    if recorder.record["finished"]:
        return recorder.record
    folder.mkdir(parents=True, exist_ok=True)
    stage = _stage(folder, recipe.epochs)
    if stage != "finished":
        if recipe.pretrain_pictures:
            options["pretrained"] = str(_pretrained(recipe, folder, recorder.record))
        elif origin.suffix != ".yaml":
            options.setdefault("pretrained", str(as_checkpoint(load(origin), folder / "start.pt")))
        recorder.write()
        resolved = yolo.write_resolved(report, folder / "data.yaml")
        _run(recipe, resolved, folder, recorder, one_bar, {**options, "resume": stage == "resumable"})
        recorder.record["epochs"] = read_record(record_file)["epochs"]  # perhaps written by another process
    recorder.record["finished"] = True
    recorder.write()
    return recorder.record


def read_record(path: Path) -> dict[str, Any]:
    """Return a run's record.

    Raises:
        ValueError: The file is cut off or is no record.
    """
    try:
        return {"finished": False, **json.loads(path.read_text())}
    except json.JSONDecodeError as error:
        raise ValueError(
            f"`{path}` is not a run's record ({error}). Remove the folder and train again."
        ) from error


def _stage(folder: Path, epochs: int) -> str:
    """Return what the checkpoint in `folder` allows: "new", "resumable" or "finished"."""
    last = folder / "weights" / "last.pt"
    if not last.exists():
        return "new"
    epoch = load_checkpoint(last)[1].get(
        "epoch", -1
    )  # -1: its optimiser has been taken out, all epochs are done
    return "finished" if epoch == -1 or epoch + 1 >= epochs else "resumable"


def _run(
    recipe: Recipe, data: Path, folder: Path, recorder: _Recorder, one_bar: bool, options: dict[str, Any]
) -> None:
    resumable = options.pop("resume")
    model = load(folder / "weights" / "last.pt" if resumable else source(recipe.model))
    if resumable and recipe.model in MODELS:
        check_variant(model.model, content_of(recipe.model), recipe.model)
    model.add_callback(EPOCH_MEASURED, recorder.epoch_measured)
    # Convolutions on a CPU are faster when the channels of a pixel lie together.
    model.add_callback("on_pretrain_routine_end", lambda t: t.model.to(memory_format=torch.channels_last))
    wanted = {"resume": True} if resumable else {**arguments(recipe, data, folder), **options}
    if not one_bar:
        model.train(trainer=Trainer, **wanted)
        return
    with _Bar(recipe.model) as bar, quietly():
        for event in ("on_train_start", "on_train_batch_end"):
            model.add_callback(event, getattr(bar, event))
        model.train(trainer=Trainer, verbose=False, **wanted)


def arguments(recipe: Recipe, data: Path, folder: Path) -> dict[str, Any]:
    """Return what a recipe means in ultralytics' own arguments."""
    return {
        **{"optimizer": "AdamW", "lr0": recipe.lr0, "lrf": 0.05, "cos_lr": True, "warmup_epochs": 1.0},
        **{"weight_decay": 1e-4, "nbs": recipe.batch, "batch": recipe.batch, "epochs": recipe.epochs},
        **{"patience": recipe.epochs, "imgsz": recipe.imgsz, "seed": recipe.seed, "deterministic": False},
        **{"warmup_bias_lr": 0.0, "cache": "ram", "plots": False, "pretrained": False, "data": str(data)},
        **(KEEPS_PAIRS if recipe.keeps_pairs else {}),
        **{"project": str(folder.parent), "name": folder.name, "exist_ok": True},
    }


def _pretrained(recipe: Recipe, folder: Path, record: dict[str, Any]) -> Path:
    from mqa_lib.rtdetr.pretrain import pretrain

    path = folder / "pretrained.pt"
    if not path.with_suffix(".json").exists():
        pretrain(recipe.model, path, recipe.seed, recipe.pretrain_pictures)
    record["pretraining"] = json.loads(path.with_suffix(".json").read_text())
    return path


def _data_card(data: Path, report: yolo.Report) -> dict[str, Any]:
    file = data.parent / "card.json"
    if file.exists():
        return json.loads(file.read_text())
    return {"name": data.stem, "pictures": dict(report.pictures), "classes": list(report.names.values())}


def _check_same_run(folder: Path, there: dict[str, Any], wanted: dict[str, Any]) -> None:
    for part in ("recipe", "data"):
        for key, value in wanted[part].items():
            if there[part].get(key) != value:
                rule = (
                    f"holds a run with {part} `{key}` = {there[part].get(key)!r}, and {value!r} was asked for"
                )
                raise checks.refuse("folder", folder.name, rule, "Use another folder or the same settings.")


def models() -> list[str]:
    """Return the names of the models that `Recipe` takes."""
    return sorted(MODELS)
