"""The status page in a real browser, over real nodes: empty, busy, with a destination that is down.

Pictures go where `DCMPRESS_SCREENSHOTS` says, else into pytest's own folder.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import instances
import peers
import pydicom
import pytest
from devtools import Browser, browser
from peers import free_port
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

#: What is wider than the section it is in.
STICKS_OUT = """
[...document.querySelectorAll("section")].flatMap(section => {
  const edge = section.getBoundingClientRect().right;
  return [...section.querySelectorAll("*")].filter(each => each.offsetParent &&
    each.getBoundingClientRect().right > edge - 8 && getComputedStyle(each).position !== "absolute"
    && !section.classList.contains("verdict") && section.id !== "figures"
  ).map(each => each.outerHTML.slice(0, 80));
})
"""
WIDTHS = {"wide": 1280, "narrow": 390}


CT = "1.2.840.10008.5.1.4.1.1.2"
RT_PLAN = "1.2.840.10008.5.1.4.1.1.481.5"
SYNTAXES = ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.5"]
TWO = """
[[destination]]
name = "archive"
directory = "{out}"
[[destination]]
name = "pacs"
ae_title = "{ae_title}"
host = "127.0.0.1"
port = {port}
"""
#: What cannot be read well: text whose contrast to what is behind it is below WCAG's 4.5.
FAINT = """
(() => {
  const numbers = colour => colour.match(/[0-9.]+/g).map(Number);
  const light = colour => {
    const part = numbers(colour).slice(0, 3).map(value => {
      const share = value / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * part[0] + 0.7152 * part[1] + 0.0722 * part[2];
  };
  const behind = each => {
    for (let at = each; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (numbers(colour)[3] !== 0) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const found = [];
  for (const each of document.querySelectorAll("body *")) {
    const own = [...each.childNodes].some(node => node.nodeType === 3 && node.data.trim());
    if (!own || !each.offsetParent) continue;
    const pair = [light(getComputedStyle(each).color), light(behind(each))].sort((a, b) => b - a);
    const contrast = (pair[0] + 0.05) / (pair[1] + 0.05);
    if (contrast < 4.5) found.push(contrast.toFixed(2) + " " + each.outerHTML.slice(0, 80));
  }
  return found;
})()
"""
#: Headings that skip a level, buttons without a name, pictures without a text.
NAMELESS = """
(() => {
  const found = [];
  let level = 0;
  for (const each of document.querySelectorAll("h1, h2, h3, h4")) {
    const now = Number(each.tagName[1]);
    if (now > level + 1) found.push(each.outerHTML);
    level = now;
  }
  for (const each of document.querySelectorAll("button, a, summary")) {
    if (!(each.getAttribute("aria-label") || each.innerText.trim())) found.push(each.outerHTML);
  }
  for (const each of document.querySelectorAll("svg")) {
    const named = each.getAttribute("aria-label") || each.getAttribute("aria-hidden");
    if (!named) found.push(each.outerHTML.slice(0, 80));
  }
  return found;
})()
"""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as running:
        yield running


class Served:
    """A `dcmpress serve` and its page."""

    def __init__(self, root: Path, *arguments: str) -> None:
        self.port, self.status_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.status_port}/"
        self.root = root
        root.mkdir(exist_ok=True)
        self.log = root / "log"
        command = [
            sys.executable, "-m", "node", "serve", "--port", str(self.port), "--receivers", "1",
            "--state", str(root / "state"), "--status-port", str(self.status_port), *arguments,
        ]  # fmt: skip
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=self.log.open("wb"),
            text=True,
            cwd=root,
            env={
                **os.environ,
                "DCMPRESS__SPOOL__RESERVE_BYTES": "0",
                "DCMPRESS__SPOOL__RESERVE_PERCENT": "0",
            },
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline().startswith("listening"), self.log.read_text()

    def send(self, name: str, count: int = 1, calling: str = "CT1") -> None:
        """Send one of pydicom's examples on one association, each time as another instance."""
        ds = pydicom.dcmread(pydicom.examples.get_path(name))
        scu = peers.connected(
            self.port, (str(ds.SOPClassUID), ExplicitVRLittleEndian), calling=calling
        )
        for _ in range(count):
            ds.SOPInstanceUID = generate_uid()
            data_set = instances.encoded(ds, ExplicitVRLittleEndian)
            uids = str(ds.SOPClassUID), str(ds.SOPInstanceUID)
            assert scu.send(*uids, ExplicitVRLittleEndian, [data_set]).status == 0
        scu.close()

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    running = Served(tmp_path / "node", "--store", str(tmp_path / "out"))
    yield running
    running.stop()


@pytest.fixture
def busy(tmp_path: Path) -> Iterator[Served]:
    """A node with a folder and an archive that takes everything."""
    classes = [CT, "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.6.1", RT_PLAN]
    with peers.downstream(sop_classes=classes, transfer_syntaxes=SYNTAXES) as archive:
        (tmp_path / "node.toml").write_text(
            TWO.format(out=tmp_path / "out", port=archive.port, ae_title=peers.DOWNSTREAM)
        )
        running = Served(tmp_path / "node", str(tmp_path / "node.toml"))
        yield running
        running.stop()


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return Path(os.environ.get("DCMPRESS_SCREENSHOTS") or tmp_path / "pictures")


def look(chromium: Browser, url: str, pictures: Path, name: str) -> None:
    """Take pictures at both widths, light and dark, and require that nothing sticks out."""
    for width_name, width in WIDTHS.items():
        for dark in (False, True):
            chromium.shape(width, dark=dark)
            chromium.open(url)
            assert chromium.evaluate("document.documentElement.scrollWidth") <= width
            assert chromium.evaluate(STICKS_OUT) == []
            assert chromium.evaluate(FAINT) == []
            assert chromium.evaluate(NAMELESS) == []
            assert str(pictures.parent) not in chromium.text(), "a path of this machine"
            scheme = "-dark" if dark else ""
            chromium.screenshot(pictures / f"{name}-{width_name}{scheme}.png")
    chromium.shape(WIDTHS["wide"])


def test_an_empty_node(chromium: Browser, served: Served, pictures: Path) -> None:
    chromium.shape(1280)
    chromium.open(served.url)
    assert "All good" in chromium.text()
    assert "Nobody has called yet" in chromium.text()
    assert chromium.complaints() == []
    look(chromium, served.url, pictures, "empty")


def test_a_busy_node(chromium: Browser, busy: Served, pictures: Path) -> None:
    """The numbers move while instances arrive, without a reload, and nothing is asked elsewhere."""
    chromium.shape(1280)
    chromium.open(busy.url)
    chromium.evaluate("window.mark = 1")
    done = threading.Event()

    def send() -> None:
        while not done.is_set():
            busy.send("ct", 6, "CT1")
            busy.send("mr", 8, "MR2")
            busy.send("rgb_color", 2, "US_ROOM_4")
            busy.send("rt_plan", 1, "PLANNING")

    sender = threading.Thread(target=send)
    sender.start()
    try:
        seen: set[str] = set()

        def moves() -> bool:
            seen.add(chromium.evaluate("document.querySelector('.figures dd').innerText"))
            return len(seen) > 3

        chromium.wait(moves, "numbers that move")
        peers.echoscu(busy.port, called="STORE_SCP")
        chromium.wait_for_text("It called STORE_SCP, we are DCMPRESS")
        time.sleep(float(os.environ.get("DCMPRESS_SCREENSHOTS_AFTER", "0")))
        look(chromium, busy.url, pictures, "busy")
        chromium.open(busy.url)
        chromium.evaluate("window.mark = 1")
        chromium.wait(lambda: len(chromium.requests()) > 5, "the page asks again")
    finally:
        done.set()
        sender.join()
    assert chromium.evaluate("window.mark") == 1, "it was loaded anew"
    assert chromium.complaints() == []
    assert all(url.startswith(busy.url) for url in chromium.requests()), chromium.requests()
    assert "CT" in chromium.text()
    assert "no pixel data" in chromium.text()


@pytest.fixture
def cut_off(tmp_path: Path) -> Iterator[Served]:
    """A node whose second destination nobody listens at, and whose third refuses everything."""
    refusing = peers.downstream(0x0122, sop_classes=[CT], transfer_syntaxes=SYNTAXES)
    with refusing as downstream:
        (tmp_path / "node.toml").write_text(
            TWO.format(out=tmp_path / "out", port=free_port(), ae_title="PACS")
            + CUT_OFF.format(refusing=downstream.port)
        )
        running = Served(tmp_path / "node", str(tmp_path / "node.toml"))
        yield running
        running.stop()


CUT_OFF = """
[[destination]]
name = "research"
ae_title = "DOWNSTREAM"
host = "127.0.0.1"
port = {refusing}
"""


def test_a_destination_that_is_down(chromium: Browser, cut_off: Served, pictures: Path) -> None:
    cut_off.send("ct", 5)
    chromium.shape(1280)
    chromium.open(cut_off.url)
    chromium.wait_for_text("Destination pacs is not answering; 5 instances are safe and wait")
    chromium.wait_for_text("0122")
    look(chromium, cut_off.url, pictures, "down")
    chromium.open(cut_off.url)
    assert chromium.complaints() == []


def test_the_buttons_act(chromium: Browser, cut_off: Served) -> None:
    cut_off.send("ct", 2)
    chromium.shape(1280)
    chromium.open(cut_off.url)
    chromium.evaluate("window.mark = 1")
    chromium.press("Echo: archive")
    chromium.wait_for_text("archive answered in")
    chromium.press("Echo: pacs")
    chromium.wait_for_text("echo pacs: 127.0.0.1")
    chromium.press("Pause: pacs")
    chromium.wait_for_text("pacs is paused")
    chromium.press("Resume: pacs")
    chromium.wait_for_text("pacs goes on")
    chromium.press("Retry failed: research")
    chromium.wait_for_text("2 instances queued for research again")
    assert chromium.evaluate("window.mark") == 1, "it was loaded anew"
    chromium.wait_for_text("refused 2 instances")
    entry = sorted((cut_off.root / "state/spool/failed/research").glob("*.dcm"))[0].name
    chromium.press(f"Drop for good: {entry}")
    chromium.wait_for_text("1 instance for research dropped")
    chromium.wait_for_text("refused 1 instance")
    trail = (cut_off.root / "state/audit/00000001.jsonl").read_text()
    assert '"action": "drop"' in trail
    assert "status page, 127.0.0.1" in trail


def test_a_relay_has_a_row_and_no_queue(chromium: Browser, tmp_path: Path) -> None:
    running = Served(tmp_path / "node", "--relay", f"PACS@127.0.0.1:{free_port()}")
    try:
        chromium.shape(1280)
        chromium.open(running.url)
        [name] = chromium.evaluate(
            "[...document.querySelectorAll('h3')].map(h => h.childNodes[0].data.trim())"
        )
        chromium.wait_for_text("relay")
        labels = chromium.evaluate("[...document.querySelectorAll('button')].map(b => b.innerText)")
        assert labels == ["Echo"]
        chromium.press(f"Echo: {name}")
        chromium.wait_for_text(f"echo {name}: 127.0.0.1")
        assert chromium.complaints() == []
    finally:
        running.stop()


def test_without_javascript_it_is_all_there(chromium: Browser, cut_off: Served) -> None:
    """A form is a form: the browser posts it and is sent back to the page."""
    cut_off.send("ct")
    chromium.shape(1280, script=False)
    chromium.open(cut_off.url)
    assert chromium.evaluate("!!document.querySelector('noscript meta[http-equiv=refresh]')")
    chromium.press("Pause: archive")
    chromium.wait_for_text("archive is paused")
    chromium.shape(1280)
