"""Firefox and WebKit for the explorer's page, each driven as its makers mean it, without a package for that."""

import base64
import contextlib
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# What WebDriver calls the keys that are no letters.
KEYS = {
    "Home": "\ue011",
    "End": "\ue010",
    "ArrowLeft": "\ue012",
    "ArrowUp": "\ue013",
    "ArrowRight": "\ue014",
    "ArrowDown": "\ue015",
    "Enter": "\ue007",
    "Escape": "\ue00c",
}
FIREFOX = ("firefox-esr", "firefox")
MINI_BROWSERS = "*/webkit2gtk-4.*/MiniBrowser"
PATIENCE = 60  # seconds


class Engine:
    """What the tests ask of a browser; each engine says how to run a script, how to act and how to end."""

    def run(self, code: str) -> Any:
        raise NotImplementedError

    def act(self, actions: list[dict[str, Any]]) -> None:
        raise NotImplementedError

    def point(self, x: float, y: float, click: bool = False) -> None:
        moves: list[dict[str, Any]] = [{"type": "pointerMove", "x": round(x), "y": round(y), "duration": 0}]
        if click:
            moves += [{"type": "pointerDown", "button": 0}, {"type": "pointerUp", "button": 0}]
        kind = {"pointerType": "mouse"}
        self.act([{"type": "pointer", "id": "mouse", "parameters": kind, "actions": moves}])

    def press(self, name: str) -> None:
        strokes = [{"type": kind, "value": KEYS[name]} for kind in ("keyDown", "keyUp")]
        self.act([{"type": "key", "id": "keys", "actions": strokes}])


class Firefox(Engine):
    """Firefox over WebDriver BiDi, which it speaks by itself."""

    def __init__(self, path: str, profile: Path) -> None:
        import websocket

        port = _free_port()
        options = ["--headless", "--no-remote", "--profile", str(profile), f"--remote-debugging-port={port}"]
        self.process = _started([path, *options, "about:blank"])
        address = f"ws://127.0.0.1:{port}/session"
        self.socket = _waited(
            lambda: websocket.create_connection(address, timeout=PATIENCE, suppress_origin=True)
        )
        self.asked = 0
        self.ask("session.new", capabilities={})
        self.tab = self.ask("browsingContext.getTree")["contexts"][0]["context"]
        size = {"width": 1200, "height": 1000}
        self.ask("browsingContext.setViewport", context=self.tab, viewport=size)

    def ask(self, method: str, **given: Any) -> Any:
        self.asked += 1
        self.socket.send(json.dumps({"id": self.asked, "method": method, "params": given}))
        while True:
            said = json.loads(self.socket.recv())
            if said.get("id") == self.asked:
                assert said["type"] == "success", said
                return said["result"]

    def open(self, address: str) -> None:
        self.ask("browsingContext.navigate", context=self.tab, url=address, wait="complete")

    def run(self, code: str) -> Any:
        expression = f"JSON.stringify((() => {{ {code} }})() ?? null)"
        said = self.ask(
            "script.evaluate", expression=expression, target={"context": self.tab}, awaitPromise=False
        )
        assert said["type"] == "success", said
        return json.loads(said["result"]["value"])

    def act(self, actions: list[dict[str, Any]]) -> None:
        self.ask("input.performActions", context=self.tab, actions=actions)

    def close(self) -> None:
        self.socket.close()
        _ended(self.process)


class WebKit(Engine):
    """WebKitGTK's small browser over its WebDriver, on a screen that nobody sees."""

    def __init__(self, driver: str, browser: str) -> None:
        port, screen = _free_port(), f":{90 + os.getpid() % 400}"
        self.screen = _started(["Xvfb", screen, "-screen", "0", "1400x1200x24"])
        own = {"DISPLAY": screen, "LIBGL_ALWAYS_SOFTWARE": "1", "WEBKIT_DISABLE_DMABUF_RENDERER": "1"}
        own["WEBKIT_DISABLE_SANDBOX_THIS_IS_DANGEROUS"] = "1"  # it opens one page, which was made here
        time.sleep(1)
        self.process = _started([driver, f"--port={port}"], own)
        self.base = f"http://127.0.0.1:{port}"
        options = {"webkitgtk:browserOptions": {"binary": browser, "args": ["--automation"]}}
        asked = {"capabilities": {"alwaysMatch": options}}
        made = _waited(lambda: self.ask("POST", "/session", asked))
        self.session = f"/session/{made['sessionId']}"
        self.ask("POST", f"{self.session}/window/rect", {"width": 1200, "height": 1000})

    def ask(self, method: str, path: str, given: Any = None) -> Any:
        data = None if given is None else json.dumps(given).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.base + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return json.load(answer)["value"]

    def open(self, address: str) -> None:
        self.ask("POST", f"{self.session}/url", {"url": address})

    def run(self, code: str) -> Any:
        return self.ask("POST", f"{self.session}/execute/sync", {"script": code, "args": []})

    def act(self, actions: list[dict[str, Any]]) -> None:
        self.ask("POST", f"{self.session}/actions", {"actions": actions})

    def close(self) -> None:
        try:
            self.ask("DELETE", self.session)
        finally:
            _ended(self.process)
            _ended(self.screen)


def missing(engine: str) -> str:
    """Return why an engine cannot run here, or nothing."""
    if engine == "Firefox":
        there = any(map(shutil.which, FIREFOX))
        return "" if there else "Firefox is not installed (apt-get install firefox-esr)"
    there = all((shutil.which("WebKitWebDriver"), shutil.which("Xvfb"), _mini_browser()))
    return "" if there else "WebKit is not installed (apt-get install webkit2gtk-driver xvfb)"


@contextlib.contextmanager
def running(engine: str, profile: Path) -> Iterator[Any]:
    """Start an engine; it ends with the block."""
    if engine == "Firefox":
        browser: Any = Firefox(next(filter(None, map(shutil.which, FIREFOX))), profile)
    else:
        browser = WebKit(str(shutil.which("WebKitWebDriver")), str(_mini_browser()))
    try:
        yield browser
    finally:
        browser.close()


def screenshot_of(browser: Any) -> bytes:
    """Return what is seen, as a PNG."""
    if isinstance(browser, Firefox):
        return base64.b64decode(browser.ask("browsingContext.captureScreenshot", context=browser.tab)["data"])
    return base64.b64decode(browser.ask("GET", f"{browser.session}/screenshot"))


def _mini_browser() -> Path | None:
    return next(Path("/usr/lib").glob(MINI_BROWSERS), None)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _started(command: list[str], own: dict[str, str] | None = None) -> "subprocess.Popen[bytes]":
    quiet = subprocess.DEVNULL
    return subprocess.Popen(command, env=os.environ | (own or {}), stdout=quiet, stderr=quiet)


def _ended(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()


def _waited(attempt: Any) -> Any:
    for _ in range(2 * PATIENCE):
        with contextlib.suppress(OSError):
            return attempt()
        time.sleep(0.5)
    return attempt()
