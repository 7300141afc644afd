"""ultralytics' trainers for RT-DETR and YOLO, whose checkpoints are whole or those of the epoch before."""

import shutil
from copy import copy
from typing import Any

from ultralytics.models.rtdetr.train import RTDETRTrainer
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.nn.tasks import RTDETRDetectionModel
from ultralytics.utils import RANK
from ultralytics.utils.torch_utils import init_seeds

from mqa_lib.rtdetr import colours

EPOCH_MEASURED = "on_epoch_measured"  # an event of our own, before an epoch's checkpoint takes its place


class Diverged(FloatingPointError):
    """A training whose loss is no finite number any more."""


class Paused(Exception):
    """Ends a training that was asked to go on another time."""


class _SafeCheckpoints(DetectionTrainer):
    """What both trainers add to ultralytics': checkpoints that a kill or a full disk cannot cut off.

    The trainers live in an importable module on purpose: a process that ultralytics starts for each GPU imports it, and
    with it the registration of our layers.
    """

    counts_colours: type[colours.RTDETRValidator] | type[colours.YOLOValidator]

    def train(self) -> None:
        """Train here, or in a process for each of several GPUs; the folder keeps what lies in it already.

        Before it starts those processes ultralytics would empty the folder, and with it record and data go.
        """
        if self.ddp:
            self.resume = True  # read by nothing but that; what the processes are told stands in `args`
        super().train()

    def resume_training(self, ckpt: dict[str, Any] | None) -> None:
        """Go on from a checkpoint, with random numbers of its epoch's own.

        Otherwise every stretch of a training that is done in slices would show the pictures in the order of the first
        epoch, flipped as they were there.
        """
        super().resume_training(ckpt)
        if self.start_epoch:
            seed = self.args.seed + 1 + RANK + 1_000_003 * self.start_epoch
            init_seeds(seed % 2**32, deterministic=self.args.deterministic)
            self.train_loader.generator.manual_seed(seed)

    def get_validator(self) -> Any:
        """Return a validator that also counts the colours of locks."""
        options = {"save_dir": self.save_dir, "args": copy(self.args), "_callbacks": self.callbacks}
        return self.counts_colours(self.test_loader, **options)

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
        # The best one first: after a kill between the two the resumed epoch is done anew, and may be the best again.
        # The other way round it would count as done, and the record would name a best epoch whose weights are gone.
        for name in ("best", "last"):
            if drafts[name].exists():
                drafts[name].replace(places[name])
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


class SafeRTDETRTrainer(_SafeCheckpoints, RTDETRTrainer):
    """ultralytics' trainer for RT-DETR with whole checkpoints."""

    counts_colours = colours.RTDETRValidator


class SafeYOLOTrainer(_SafeCheckpoints):
    """ultralytics' trainer for YOLO with whole checkpoints."""

    counts_colours = colours.YOLOValidator


def trainer_for(network: Any) -> type[_SafeCheckpoints]:
    """Return the trainer for a network of ultralytics."""
    return SafeRTDETRTrainer if isinstance(network, RTDETRDetectionModel) else SafeYOLOTrainer
