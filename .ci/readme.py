"""Run the commands of README.md word for word, in this folder, a clean clone.

Each shell block stands below a comment that says what it is: `serve` is started and left running
until the end, `test` is the test command (run by the caller: see --test), `run` must exit 0, and
`elsewhere` names the test that runs it, see tests/readme.py. A block without a comment is an error,
so none is forgotten.
"""

import re
import signal
import subprocess
import sys
from pathlib import Path

BLOCK = re.compile(r"(?:<!-- ci: (\w+)([^>]*) -->\n)?```sh\n(.*?)```", re.DOTALL)


def shell(command: str, **options: object) -> subprocess.Popen[str]:
    """Start a block as a person's shell would."""
    return subprocess.Popen(["bash", "-c", command], text=True, **options)


def main(wanted: str) -> int:
    """Run the blocks: `--test` the test command alone, `--use` the others, in order."""
    serving: list[subprocess.Popen[str]] = []
    try:
        for kind, reason, command in BLOCK.findall(Path("README.md").read_text("utf-8")):
            if not kind:
                print(f"README.md: this block does not say what it is:\n{command}")
                return 1
            if (kind == "test") != (wanted == "--test"):
                continue
            print(f"--- README, {kind}{reason}:\n{command}", flush=True)
            if kind == "serve":
                process = shell(command, stdout=subprocess.PIPE, start_new_session=True)
                serving.append(process)
                line = process.stdout.readline() if process.stdout else ""
                print(line, flush=True)
                if line != "listening AE=DCMPRESS 127.0.0.1:11112\n":
                    return 1
            elif kind == "elsewhere":
                test = Path(reason.strip())
                if not test.is_file() or "readme.blocks(" not in test.read_text("utf-8"):
                    print(f"{test} does not run it")
                    return 1
            elif kind in ("run", "test") and shell(command).wait() != 0:
                print("failed")
                return 1
    finally:
        for process in serving:
            subprocess.run(["pkill", "-TERM", "-s", str(process.pid)], check=False)
            code = process.wait(60)
            print(f"the node ended with {code}")
    return 0


if __name__ == "__main__":
    signal.alarm(3600)
    sys.exit(main(sys.argv[1]))
