"""Look for known vulnerabilities in what a release is installed with: `python .ci/audit.py LOCK`.

Runs pip-audit on the pinned versions. Ends with code 1 where one has a known vulnerability; where
no vulnerability service can be reached, or none knows these packages, that is said, and the code
is 0: a machine without a network can still build.
"""

from __future__ import annotations

import json
import subprocess
import sys

_SECONDS = 120


def main() -> int:
    """Run pip-audit and say what came of it."""
    command = [sys.executable, "-m", "pip_audit", "--disable-pip", "--require-hashes"]
    command += ["--progress-spinner", "off", "-f", "json", "-r", sys.argv[1]]
    try:
        ended = subprocess.run(
            command, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
        found = json.loads(ended.stdout)["dependencies"]
    except (subprocess.TimeoutExpired, ValueError, KeyError):
        print("audit: SKIPPED, no vulnerability service could be asked")
        return 0
    skipped = [item["name"] for item in found if "skip_reason" in item]
    bad = [item for item in found if item.get("vulns")]
    for item in bad:
        names = ", ".join(vulnerability["id"] for vulnerability in item["vulns"])
        print(f"audit: {item['name']} {item['version']}: {names}")
    if len(skipped) == len(found):
        print("audit: SKIPPED, the vulnerability service knows none of these packages")
    else:
        print(f"audit: {len(found) - len(skipped)} looked up, {len(bad)} with vulnerabilities")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
