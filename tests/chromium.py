"""Find a Chromium for the browser tests, or get one: `python -m tests.chromium`."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_APPS = (
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)
BY_HAND = "python -m playwright install --with-deps chromium"


def starts(path: str) -> bool:
    """Return whether the browser at `path` starts and draws a page: some that are installed cannot run here."""
    command = [path, *FLAGS, "--dump-dom", "data:text/html,<title>ready</title>"]
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return "ready" in run.stdout


def _of_playwright() -> str | None:
    """Return where Playwright would look for its own Chromium."""
    code = "from playwright.sync_api import sync_playwright as s\nwith s() as p: print(p.chromium.executable_path)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    return run.stdout.strip() or None


def find() -> str | None:
    """Return the first Chromium that starts: on the PATH, an application, then Playwright's own."""
    known = [shutil.which(name) for name in _NAMES]
    known += [app for app in _APPS if Path(app).is_file()]
    first = next((path for path in known if path and starts(path)), None)
    if first:
        return first
    own = _of_playwright()
    return own if own and Path(own).is_file() and starts(own) else None


def _apt() -> list[str] | None:
    """Return what to put before `apt-get` where it may install without asking anyone, else None."""
    if shutil.which("apt-get") is None:
        return None
    if os.geteuid() == 0:
        return []
    sudo = shutil.which("sudo")
    free = sudo and subprocess.run([sudo, "-n", "true"], capture_output=True).returncode == 0
    return ["sudo", "-n"] if free else None


def _run(command: list[str]) -> bool:
    print(f"Browser tests need Chromium: {' '.join(command)}", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    if run.returncode:
        print((run.stderr or run.stdout).strip()[-500:], file=sys.stderr)
    return run.returncode == 0


def obtain() -> str | None:
    """Return a Chromium that starts, installing one where that may be done without asking; None if none can be had."""
    if path := find():
        return path
    lead = _apt()
    if lead is not None:
        _run([*lead, "apt-get", "update"])  # a stale list may still do
        _run([*lead, "apt-get", "install", "--yes", "--no-install-recommends", "chromium"])
        if path := find():
            return path
    _run([sys.executable, "-m", "playwright", "install", "chromium"])
    return find()


def main() -> int:
    """Print where Chromium is; return 1 if none can be had."""
    path = obtain()
    if path is None:
        print(f"No Chromium could be had. This would give one: {BY_HAND}", file=sys.stderr)
        return 1
    print(f"Browser tests use {path}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
