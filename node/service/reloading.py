"""What a reload may change, and what it did change, in words. Pure."""

from __future__ import annotations

from pathlib import Path

from node.errors import BadConfiguration
from node.settings import Settings


def require_reloadable(old: Settings, new: Settings) -> None:
    """Raise `BadConfiguration` where `new` changes what was opened once and for all."""
    fixed = ("host", "port", "state_directory")
    changed = [name for name in fixed if getattr(old.node, name) != getattr(new.node, name)]
    names = [f"node.{name}" for name in changed]
    if new.status != old.status:
        names.append("status")
    if _speaks_tls(new) != _speaks_tls(old):
        names.append("where TLS is spoken")
    if names:
        raise BadConfiguration(f"{', '.join(names)} can only change with a restart")


def what_changed(old: Settings, new: Settings, config: Path | None) -> str:
    """Say what a reload did. Certificates are read again whatever else changed."""
    if config is None:
        return (
            "there is no settings file to read again; certificates are. Options and variables "
            "only change with a restart"
        )
    before, after = old.tables(), new.tables()
    changed = ", ".join(name for name in after if before[name] != after[name])
    what = f"changed: {changed}" if changed else "nothing has changed"
    return f"settings read again from {config}, {what}"


def _speaks_tls(settings: Settings) -> tuple[bool, int | None]:
    return settings.tls.certificate is not None, settings.tls.port
