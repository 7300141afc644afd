"""The first import of ultralytics in a new home says nothing, and takes nothing away from what is said later."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("ultralytics")
LATER = "from ultralytics.utils import LOGGER; print('imported'); LOGGER.info('said later'); LOGGER.warning('warned')"


def run(code: str, home: Path) -> str:
    """Return all that Python prints in a home in which ultralytics never ran."""
    named = ("HOME", "USERPROFILE", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "APPDATA", "MPLCONFIGDIR")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("YOLO_")}
    environment = kept | dict.fromkeys(named, str(home))
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return done.stdout


def test_without_us_the_first_import_of_ultralytics_is_not_silent(tmp_path):
    assert "Creating new" in run("import ultralytics", tmp_path)


def test_the_first_import_in_a_new_home_prints_nothing_and_later_words_still_come(tmp_path):
    said = run(f"import mqa_lib.rtdetr; {LATER}", tmp_path).splitlines()
    assert said[:2] == ["imported", "said later"]
    assert len(said) == 3 and said[2].endswith("warned")
    assert list(tmp_path.rglob("settings.json"))  # it was the first import, which writes them
