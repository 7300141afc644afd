import importlib.util, runpy, subprocess, zipfile as z
from pathlib import Path

REPOSITORY = ""  # cloned where mqa_lib is not at hand; `make publish` writes it
FILE, HERE, spec = "mqa_lib/bootstrap.py", Path.cwd(), importlib.util.find_spec("mqa_lib")
found = [home / FILE for home in (HERE, *HERE.parents) if (home / FILE).is_file()]
found += [Path(spec.origin).with_name("bootstrap.py")] if spec else HERE.glob(f"mobile-mqa/**/{FILE}")
if not found:
    ours = [p for p in HERE.glob("*.zip") if z.is_zipfile(p) and FILE in str(z.ZipFile(p).namelist())]
    assert ours or REPOSITORY, "Put the project's zip beside this notebook, or open it in its project folder."
    clone = ["git", "clone", "--quiet", "--depth=1", REPOSITORY, "mobile-mqa"]
    z.ZipFile(ours[0]).extractall("mobile-mqa") if ours else subprocess.run(clone, check=True)
    found = [*HERE.glob(f"mobile-mqa/**/{FILE}")]
runpy.run_path(str(found[0]))["prepare"]()
