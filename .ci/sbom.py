"""The software bill of materials: what the installed dcmpress consists of, as CycloneDX 1.5.

    python .ci/sbom.py OUTPUT [LOCK]     run with the Python of the environment it describes

Lists dcmpress and every distribution that it needs, directly or not, with version, licence and
package URL, and which needs which. With LOCK, also checks that the lock pins all of them: ends
with code 1 and says what is missing where it does not.
"""

from __future__ import annotations

import json
import re
import sys
import uuid
from datetime import UTC, datetime
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

ROOT = "dcmpress"


def name_of(name: str) -> str:
    """Return a name as package indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def needed_by(found: Distribution) -> list[str]:
    """Return what a distribution needs here, without its extras."""
    requirements = map(Requirement, found.requires or [])
    wanted = (r for r in requirements if r.marker is None or r.marker.evaluate({"extra": ""}))
    return sorted({name_of(requirement.name) for requirement in wanted})


def closure(root: str) -> dict[str, Distribution]:
    """Return everything that `root` needs, itself included."""
    found: dict[str, Distribution] = {}
    waiting = [root]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = distribution(name)
            waiting += needed_by(found[name])
    return dict(sorted(found.items()))


def licence_of(found: Distribution) -> str:
    """Return the licence as the metadata has it, in one line."""
    metadata = found.metadata
    stated = metadata.get("License-Expression") or metadata.get("License") or ""
    classifiers = [c for c in metadata.get_all("Classifier") or [] if c.startswith("License ::")]
    return (stated.splitlines() or [""])[0] or ", ".join(
        c.rsplit(" :: ", 1)[-1] for c in classifiers
    )


def bill(found: dict[str, Distribution]) -> dict[str, object]:
    """Return the document."""
    urls = {name: f"pkg:pypi/{name}@{d.version}" for name, d in found.items()}
    components = [
        {
            "type": "application" if name == ROOT else "library",
            "bom-ref": urls[name],
            "name": name,
            "version": d.version,
            "purl": urls[name],
            "licenses": [{"license": {"name": licence_of(d)}}] if licence_of(d) else [],
        }
        for name, d in found.items()
    ]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid.uuid4()}",
        "version": 1,
        "metadata": {
            "timestamp": datetime.now(UTC).isoformat(timespec="seconds"),
            "component": next(c for c in components if c["name"] == ROOT),
        },
        "components": [c for c in components if c["name"] != ROOT],
        "dependencies": [
            {"ref": urls[name], "dependsOn": [urls[n] for n in needed_by(d) if n in urls]}
            for name, d in found.items()
        ],
    }


def pinned(lock: str) -> set[str]:
    """Return the names that a lock pins."""
    return {name_of(name) for name in re.findall(r"^([A-Za-z0-9._-]+)==", lock, re.MULTILINE)}


def main() -> int:
    """Write the bill, and compare it with the lock."""
    try:
        found = closure(ROOT)
    except PackageNotFoundError as missing:
        print(f"sbom: {missing.name} is not installed", file=sys.stderr)
        return 1
    output = Path(sys.argv[1])
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(bill(found), indent=1) + "\n", "utf-8")
    print(f"{output}: {len(found)} components")
    if len(sys.argv) > 2:
        missing_names = found.keys() - pinned(Path(sys.argv[2]).read_text("utf-8")) - {ROOT}
        if missing_names:
            print(f"{sys.argv[2]} does not pin {', '.join(sorted(missing_names))}: run .ci/lock")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
