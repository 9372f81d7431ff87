"""A real browser without a network: headless Chromium, spoken to over two pipes in its DevTools protocol.

No driver and no socket is needed: ``--remote-debugging-pipe`` reads JSON commands from file descriptor 3 and writes
answers and events to 4, each ended by a zero byte.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PATIENCE = 60.0  # seconds


class Browser:
    """One tab. Use it as a context manager; it leaves no process behind."""

    def __init__(self, profile: Path) -> None:
        commands, self._commands = os.pipe()
        self._answers, answers = os.pipe()
        flags = ("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync",
                 "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
                 "--remote-debugging-pipe", f"--user-data-dir={profile}")  # fmt: skip
        # the pipe's ends have to be 3 and 4 in the child, whatever numbers they have here
        command = ["bash", "-c", f'exec "$@" 3<&{commands} 4>&{answers}', "chromium", CHROMIUM, *flags]
        self._process = subprocess.Popen(
            command, pass_fds=(commands, answers), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(commands)
        os.close(answers)
        self._sent, self._unread, self.events = 0, b"", []
        try:
            self._begin()
        except BaseException:
            self.__exit__()
            raise

    def _begin(self) -> None:
        target = self._ask("Target.createTarget", {"url": "about:blank"}, session=None)["targetId"]
        attached = self._ask("Target.attachToTarget", {"targetId": target, "flatten": True}, session=None)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._ask(f"{domain}.enable")

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._commands)
        os.close(self._answers)

    def open(self, page: Path, *, width: int = 1280, height: int = 900) -> None:
        """Load a file in a window of this size and wait until it is there."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self._ask("Emulation.setDeviceMetricsOverride", size)
        self.events.clear()
        self._ask("Page.navigate", {"url": page.resolve().as_uri()})
        self._until(lambda: any(event["method"] == "Page.loadEventFired" for event in self.events))

    def run(self, script: str) -> object:
        """Run JavaScript in the page and give its value."""
        asked = {"expression": script, "returnByValue": True, "awaitPromise": True}
        answer = self._ask("Runtime.evaluate", asked)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def click(self, selector: str) -> None:
        """Press and release the mouse in the middle of an element, as a person does."""
        self.run(
            f"document.querySelector({json.dumps(selector)}).scrollIntoView({{block: 'center', behavior: 'instant'}})"
        )
        box = self.run(
            f"(r => [r.x + r.width / 2, r.y + r.height / 2])"
            f"(document.querySelector({json.dumps(selector)}).getBoundingClientRect())"
        )
        for kind in ("mousePressed", "mouseReleased"):
            where = {"type": kind, "x": box[0], "y": box[1], "button": "left", "clickCount": 1}
            self._ask("Input.dispatchMouseEvent", where)

    def complaints(self) -> list[str]:
        """Everything that the browser wrote into its console, and every exception, since the page was opened."""
        self.run("1")
        kinds = {"Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled"}
        return [json.dumps(event["params"]) for event in self.events if event["method"] in kinds]

    def requests(self) -> list[str]:
        """The addresses that were asked for since the page was opened, but for what is inside the page."""
        urls = [event["params"]["request"]["url"] for event in self.events
                if event["method"] == "Network.requestWillBeSent"]  # fmt: skip
        return [url for url in urls if not url.startswith("data:")]

    def screenshot(self, path: Path) -> None:
        """Keep the whole page as PNG."""
        shot = self._ask("Page.captureScreenshot", {"format": "png", "captureBeyondViewport": True})
        path.write_bytes(base64.b64decode(shot["data"]))

    def _ask(self, method: str, params: dict | None = None, *, session: str | None = "own") -> dict:
        self._sent += 1
        sent = self._sent
        message = {"id": sent, "method": method, "params": params or {}}
        if session is not None:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        found: list[dict] = []
        self._until(lambda: found, lambda answer: found.append(answer) if answer.get("id") == sent else None)
        assert "error" not in found[0], (method, found[0])
        return found[0]["result"]

    def _until(self, done, hear=lambda answer: None) -> None:
        end = time.monotonic() + PATIENCE
        while not done():
            left = end - time.monotonic()
            assert left > 0, "the browser does not answer"
            if not select.select([self._answers], [], [], left)[0]:
                continue
            read = os.read(self._answers, 1 << 20)
            assert read, "the browser has gone"
            *whole, self._unread = (self._unread + read).split(b"\0")
            for text in whole:
                answer = json.loads(text)
                if "method" in answer:
                    self.events.append(answer)
                hear(answer)
