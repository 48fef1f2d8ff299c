"""Fuzz the settings: a file, or a variable of the environment.

Whatever it says, there are valid settings in the end or `BadConfiguration` with a report; valid
ones survive the way to another process.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import harness  # first: it sets the path

with harness.instrumented("node.settings", "node.network.users", "tomllib"):
    from node.errors import BadConfiguration, InputMissing
    from node.network import users
    from node.settings import Settings, load

_FOLDER = Path(tempfile.mkdtemp(prefix="settings-"))


def one(content: bytes) -> None:
    """The first byte chooses what the rest is."""
    if not content:
        return
    kind, data = content[0] % 3, content[1:]
    if kind == 2:
        user_file(data)
        return
    environ, path = {"HOME": "/home/x"}, None
    if kind:
        environ["DCMPRESS__DESTINATION"] = data.decode("utf-8", "surrogateescape")
    else:
        path = _FOLDER / "node.toml"
        path.write_bytes(data)
    try:
        settings = load(path, environ=environ).settings
    except (BadConfiguration, InputMissing):
        return
    assert Settings.decode(settings.encode()) == settings


def user_file(data: bytes) -> None:
    """The file of users."""
    path = _FOLDER / "users"
    path.write_bytes(data)
    path.chmod(0o600)
    try:
        users.Users(path, required=True).require_usable()
    except BadConfiguration:
        return


def seeds() -> list[bytes]:
    """The shipped file, those of the tests, and a line of a user."""
    root = harness.TESTS.parent
    files = [root / "config" / "node.toml", *(root / "tests" / "data" / "settings").glob("*.toml")]
    found = [b"\0" + path.read_bytes() for path in files]
    uncommented = files[0].read_text().replace("\n#", "\n")
    found.append(b"\0" + uncommented.encode())
    found.append(b"\1" + b'[{name = "a", directory = "b"}]')
    users._COST = (2**4, 8, 1)  # type: ignore[misc]
    found.append(b"\2" + f"# users\n{users.line_of('me', 'secret')}\nrouter:-\n".encode())
    return found


if __name__ == "__main__":
    harness.run(one, seeds())
