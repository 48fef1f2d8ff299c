"""How fast is `dcmpress compress`, next to what else does this? Run it: it prints ratios.

    python tests/benchmarks/bench_compress.py [FOLDER] [--copies N]

The same files, whole programs from start to end, in turns, medians of five: pydicom's tutorial
(a process pool over `Dataset.compress`, with the fastest encoder plugin it finds), a shell loop
over DCMTK's `dcmcrle`, one over GDCM's `gdcmconv --rle`. FOLDER is by default the corpus's series
of 105 CT slices; `--copies 10` has ten of it, where start-up counts for less. Run it with the
Python of an installed wheel: the finder of an editable install takes 10 ms of every start.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SERIES = (
    Path(__file__).resolve().parents[3]
    / "shared/corpus/didymo+OnkoDICOM/_history/test/testdata/DICOM-RT-TEST"
)
ROUNDS = 5
TUTORIAL = """\
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from pydicom import dcmread
from pydicom.uid import RLELossless

def compress(source, target):
    ds = dcmread(source)
    if "PixelData" in ds:
        ds.compress(RLELossless, encoding_plugin=sys.argv[3], generate_instance_uid=False)
    ds.save_as(target)

if __name__ == "__main__":
    source, target = Path(sys.argv[1]), Path(sys.argv[2])
    with ProcessPoolExecutor() as executor:
        futures = [
            executor.submit(compress, path, target / path.name) for path in source.iterdir()
        ]
        for future in as_completed(futures):
            future.result()
"""
LOOP = 'for file in "$1"/*; do {command} "$file" "$2/${{file##*/}}" 2>/dev/null; done; true'


def contestants(folder: Path, scratch: Path) -> dict[str, list[str]]:
    """The command line of each; those that are not installed are left out."""
    script = scratch / "tutorial.py"
    script.write_text(TUTORIAL)
    found = {
        "dcmpress compress": [
            *(str(Path(sys.executable).with_name("dcmpress")), "compress", str(folder)),
            *("--output", str(scratch / "out")),
        ],
    }
    for plugin, module in (("pylibjpeg", "rle"), ("gdcm", "gdcm")):
        if subprocess.run([sys.executable, "-c", f"import {module}"], check=False).returncode == 0:
            words = [sys.executable, str(script), str(folder), str(scratch / "out"), plugin]
            found[f"tutorial, {plugin}"] = words
    for command in ("dcmcrle", "gdcmconv --rle"):
        if shutil.which(command.split()[0]):
            words = ["sh", "-c", LOOP.format(command=command), "sh"]
            found[f"loop, {command}"] = [*words, str(folder), str(scratch / "out")]
    return found


def measure(commands: dict[str, list[str]], out: Path) -> dict[str, float]:
    """Return the median of each, run in turns."""
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(ROUNDS):
        for name, words in commands.items():
            shutil.rmtree(out, ignore_errors=True)
            out.mkdir()
            began = time.perf_counter()
            subprocess.run(words, stdout=subprocess.DEVNULL, check=True)
            seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(times) for name, times in seconds.items()}


def main() -> None:
    """Run it."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("folder", nargs="?", type=Path, default=SERIES)
    arguments.add_argument("--copies", type=int, default=1)
    options = arguments.parse_args()
    if not options.folder.is_dir():
        sys.exit(f"there is no folder {options.folder}: name one with native images")
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        source = scratch / "in"
        source.mkdir()
        for number in range(options.copies):
            for path in filter(Path.is_file, options.folder.iterdir()):
                shutil.copyfile(path, source / f"{number}-{path.name}")
        files = list(source.iterdir())
        size = sum(path.stat().st_size for path in files)
        print(f"{len(files)} files, {size / 1e6:.1f} MB, medians of {ROUNDS}")
        medians = measure(contestants(source, scratch), scratch / "out")
    ours = medians["dcmpress compress"]
    for contestant, seconds in medians.items():
        speed = size / 1e6 / seconds
        print(f"{contestant:<24}{seconds:>8.2f} s{speed:>8.0f} MB/s{seconds / ours:>8.1f} x")


if __name__ == "__main__":
    main()
