"""Debian's chromium, driven by the DevTools protocol over a pipe: no driver, no library.

A message is JSON with a zero byte behind it, read by the browser from descriptor 3 and written to
descriptor 4 (`--remote-debugging-pipe`).
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import peers

#: A browser on a busy machine with two cores may take its time.
PATIENCE = 60.0


class Browser:
    """A running browser, and what one page in it did."""

    def __init__(self, profile: Path) -> None:
        to_browser, our_end = os.pipe()
        from_browser, its_end = os.pipe()
        self._writing, self._reading = our_end, from_browser
        self._process = subprocess.Popen(
            [
                peers.need("chromium"), "--headless=new", "--remote-debugging-pipe",
                f"--user-data-dir={profile}", "--no-first-run", "--disable-gpu",
                # The tests run as root in a container, where its sandbox cannot.
                "--no-sandbox", "--disable-dev-shm-usage", "--disable-extensions",
                "--disable-background-networking", "--disable-component-update",
                "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
                "about:blank",
            ],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            close_fds=False, preexec_fn=lambda: _give(to_browser, its_end),
        )  # fmt: skip
        os.close(to_browser)
        os.close(its_end)
        self._numbers = itertools.count(1)
        self._rest = b""
        self._session = ""
        self.events: list[dict[str, Any]] = []
        [page] = [
            each for each in self.call("Target.getTargets")["targetInfos"] if each["type"] == "page"
        ]
        attached = self.call("Target.attachToTarget", targetId=page["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call the browser and return what it answered."""
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._writing, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next(PATIENCE)
            assert answer is not None, f"{method}: no answer"
            if answer.get("id") == number:
                assert "error" not in answer, answer["error"]
                return dict(answer["result"])

    def _next(self, seconds: float) -> dict[str, Any] | None:
        """Return the next message, None where none comes in time; events are noted."""
        deadline = time.monotonic() + seconds
        while b"\0" not in self._rest:
            left = max(0.0, deadline - time.monotonic())
            if not select.select([self._reading], [], [], left)[0]:
                return None
            data = os.read(self._reading, 1 << 20)
            assert data, "the browser ended"
            self._rest += data
        text, self._rest = self._rest.split(b"\0", 1)
        message = dict(json.loads(text))
        if "method" in message:
            self.events.append(message)
        return message

    def open(self, url: str) -> None:
        """Go to a page and wait until it is loaded."""
        # What the page before still complains of is not this one's.
        self._go("about:blank")
        self._go(url)

    def _go(self, url: str) -> None:
        self.events.clear()
        self.call("Page.navigate", url=url)
        self.wait(lambda: any(e["method"] == "Page.loadEventFired" for e in self.events), url)

    def evaluate(self, expression: str) -> Any:
        """Return the value of an expression in the page."""
        answer = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def text(self) -> str:
        """Return what can be read on the page."""
        return str(self.evaluate("document.body ? document.body.innerText : ''"))

    def wait(self, condition: Callable[[], object], what: str) -> None:
        """Wait until a condition holds, hearing the browser meanwhile."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, f"not within {PATIENCE:.0f} s: {what}"
            self._next(0.05)

    def wait_for_text(self, text: str) -> None:
        """Wait until the page shows a text."""
        self.wait(lambda: text in self.text(), f"the page shows {text!r}")

    def press(self, label: str) -> None:
        """Press the button of that label."""
        selector = f"button[aria-label={json.dumps(label)}]"
        self.wait(
            lambda: self.evaluate(f"!!document.querySelector({json.dumps(selector)})"),
            f"a button {label!r}",
        )
        self.evaluate(f"document.querySelector({json.dumps(selector)}).click()")

    def shape(
        self, width: int, height: int = 900, *, dark: bool = False, script: bool = True
    ) -> None:
        """Be a window of that width."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=width < 600,
        )  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Emulation.setScriptExecutionDisabled", value=not script)

    def screenshot(self, path: Path) -> None:
        """Write a picture of the whole page."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        picture = self.call("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(picture["data"]))

    def complaints(self) -> list[str]:
        """Return what the console was told since the page was opened: errors, refusals of CSP."""
        found = []
        for event in self.events:
            facts = event["params"]
            if event["method"] == "Runtime.exceptionThrown":
                found.append(str(facts["exceptionDetails"]["text"]))
            elif event["method"] == "Runtime.consoleAPICalled" and facts["type"] == "error":
                found.append(str(facts["args"]))
            elif event["method"] == "Log.entryAdded" and facts["entry"]["level"] == "error":
                found.append(str(facts["entry"]["text"]))
        return found

    def requests(self) -> list[str]:
        """Return every URL that was asked for since the page was opened."""
        return [
            str(event["params"]["request"]["url"])
            for event in self.events
            if event["method"] == "Network.requestWillBeSent"
        ]

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        os.close(self._writing)
        os.close(self._reading)


def _give(reading: int, writing: int) -> None:
    """Make our two descriptors 3 and 4, in the child; the rest is closed."""
    spare = os.dup(reading), os.dup(writing)
    high = [os.dup2(each, 200 + number) for number, each in enumerate(spare)]
    os.closerange(3, 200)
    os.dup2(high[0], 3)
    os.dup2(high[1], 4)
    os.closerange(5, 1024)


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """Run a browser with a profile that is gone afterwards."""
    profile = Path(tempfile.mkdtemp(prefix="chromium-"))
    try:
        running = Browser(profile)
        try:
            yield running
        finally:
            running.close()
    finally:
        shutil.rmtree(profile, ignore_errors=True)
