"""The shell blocks of README.md that a test runs because they need more than a clone."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
_BLOCK = re.compile(r"<!-- ci: elsewhere (\S+) -->\n```sh\n(.*?)```", re.DOTALL)
_SETTINGS = re.compile(r"```toml\n(.*?)```", re.DOTALL)


def text() -> str:
    """Return README.md."""
    return (ROOT / "README.md").read_text("utf-8")


def blocks(test: str) -> list[str]:
    """Return the blocks that README.md says the test file `test` runs, in order."""
    found = [block for file, block in _BLOCK.findall(text()) if ROOT / file == Path(test).resolve()]
    assert found, f"README.md has no block for {test}"
    return found


def settings() -> list[str]:
    """Return the pieces of a settings file that README.md shows."""
    return _SETTINGS.findall(text())
