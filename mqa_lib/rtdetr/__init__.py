"""RT-DETR with Mobile MQA: the only door to ultralytics.

Importing this package makes the names `MobileMQABlock`, `AIFI_MQA`, `ResNetLayer_MQA`, `C3_MQA` and the two
`..._Corrected` known to ultralytics' model files, in memory only: no file of ultralytics is edited, and other models
build as before. It also keeps ultralytics from asking the network, from installing packages by itself, and from
touching the user's own settings, unless the environment says otherwise or ultralytics was imported before; then runs
go to `runs` in the working folder, also where ultralytics lies within somebody's repository.

A model *file* needs this import first; without it ultralytics says `KeyError: 'MobileMQABlock'`, and
`python -m mqa_lib yolo` makes it for you. A *checkpoint* needs the package to be installed and no import: opening it
brings the import with it, also in the processes that ultralytics starts for other GPUs (see MULTI_GPU.md). Where the
package is not installed ultralytics says `No module named 'mqa_lib'`, and unless YOLO_AUTOINSTALL=false is set it would
look for a package of that name on the index, which may be anybody's: install this one from its own place.
"""

import logging
import os
import sys
import tempfile
from pathlib import Path


def _own_folder() -> Path:
    """Return a folder for ultralytics' settings that is ours and can be written to."""
    try:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mqa_lib"
        cache.mkdir(parents=True, exist_ok=True)
        if os.access(cache, os.W_OK):
            return cache
    except (OSError, RuntimeError):  # no home, or one that cannot be written to, as some clusters have
        pass
    return Path(tempfile.mkdtemp(prefix="mqa_lib-"))


_THREADS = os.environ.get("OMP_NUM_THREADS")
_SETTINGS_ARE_OURS = "YOLO_CONFIG_DIR" not in os.environ and "ultralytics" not in sys.modules
os.environ.setdefault("YOLO_CONFIG_DIR", str(_own_folder()))
os.environ.setdefault("YOLO_OFFLINE", "1")
os.environ.setdefault("YOLO_AUTOINSTALL", "false")


def _no_chatter(said: logging.LogRecord) -> bool:
    return said.levelno > logging.INFO


# The first import ever writes ultralytics' settings, and says at length where. Its warnings still come through.
_LOGGER = logging.getLogger("ultralytics")
_LOGGER.addFilter(_no_chatter)
try:  # ultralytics reads the environment on import, so this comes after it
    from ultralytics.utils import SETTINGS

    from mqa_lib.rtdetr.build import MODELS, load, register
    from mqa_lib.rtdetr.carry import carry_over
    from mqa_lib.rtdetr.weights import as_checkpoint, load_weights, save_weights
finally:
    _LOGGER.removeFilter(_no_chatter)
    if _THREADS is None:  # ultralytics would have every process that is started from here on take one thread
        os.environ.pop("OMP_NUM_THREADS", None)

register()
# On its first import ever ultralytics notes the repository around its own files, if there is one, and would write
# every later run there, whichever folder, environment or copy of a project it is started from.
if _SETTINGS_ARE_OURS and SETTINGS["runs_dir"] == SETTINGS.defaults["runs_dir"] != "runs":
    SETTINGS.update(runs_dir="runs")

__all__ = ["MODELS", "as_checkpoint", "carry_over", "load", "load_weights", "register", "save_weights"]
