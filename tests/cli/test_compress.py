"""`dcmpress compress`: what is written, what is left alone, and what a killed run leaves behind."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import corpus
import numpy as np
import peers
import pydicom
import pytest
from deadly import Deadly
from pydicom import examples
from pydicom.pixels.utils import pixel_array
from pydicom.uid import JPEG2000Lossless, RLELossless

from node.cli import compressing, main, plain
from node.errors import CannotWrite
from node.pixels.policy import Options
from node.reasons import KeepReason
from node.service import batch
from node.service.places import InPlace, Mirror, Task
from node.service.rewriting import Broken, NotDicom, Rewriter, Same, Smaller

CT = Path(examples.get_path("ct"))
SAMPLES = CT.parent
J2K, RLE, PLAN = (
    SAMPLES / name for name in ("MR_small_jp2klossless.dcm", "MR_small_RLE.dcm", "rtplan.dcm")
)


@pytest.fixture
def tree(tmp_path):
    """Two native images, one that is compressed, and one object without pixels."""
    root = tmp_path / "tree"
    (root / "a" / "b").mkdir(parents=True)
    for source, place in ((CT, "ct.dcm"), (RLE, "a/rle.dcm"), (PLAN, "a/b/plan"), (J2K, "j2k")):
        shutil.copyfile(source, root / place)
    shutil.copyfile(examples.get_path("overlay"), root / "a" / "overlay.dcm")
    return root


def contents(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def syntax(path: Path) -> str:
    return pydicom.dcmread(path, stop_before_pixels=True).file_meta.TransferSyntaxUID


def same_pixels(one: Path, other: Path) -> bool:
    arrays = [pixel_array(path, raw=True) for path in (one, other)]
    return np.array_equal(*arrays)


def test_a_mirror_has_every_dicom_file(capsys, tmp_path, tree):
    before = contents(tree)
    assert main(["compress", str(tree), "--output", str(tmp_path / "out")]) == 0
    assert contents(tree) == before
    after = contents(tmp_path / "out")
    assert list(after) == list(before)
    assert {name for name in after if after[name] == before[name]} == {
        "a/b/plan",
        "a/rle.dcm",
        "j2k",
    }
    for name in ("ct.dcm", "a/overlay.dcm"):
        assert syntax(tmp_path / "out" / name) == RLELossless
        assert same_pixels(tree / name, tmp_path / "out" / name)
    shown = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["files", "5"] in shown
    assert ["compressed", "2"] in shown
    assert ["kept", "2", "already", "compressed"] in shown
    assert ["kept", "1", "no", "pixel", "data"] in shown


def test_in_place_keeps_permissions_and_times(tree):
    image = tree / "ct.dcm"
    original = image.read_bytes()
    os.chmod(image, 0o640)
    os.utime(image, ns=(1_500_000_000_000_000_000, 1_400_000_000_123_456_789))
    assert main(["compress", str(tree), "--in-place"]) == 0
    found = image.stat()
    assert found.st_mode & 0o7777 == 0o640
    assert found.st_mtime_ns == 1_400_000_000_123_456_789
    assert found.st_size < len(original)
    assert syntax(image) == RLELossless
    assert (tree / "a" / "rle.dcm").read_bytes() == RLE.read_bytes()
    assert main(["compress", str(tree), "--in-place"]) == 0  # and a second time changes nothing


def test_other_elements_are_the_same(tree):
    before = pydicom.dcmread(tree / "ct.dcm")
    assert main(["compress", str(tree), "--in-place"]) == 0
    after = pydicom.dcmread(tree / "ct.dcm")
    assert after.file_meta.MediaStorageSOPInstanceUID == before.SOPInstanceUID
    for dataset in (before, after):
        del dataset.PixelData
    assert after == before


@pytest.mark.parametrize("goal", [["--in-place"], ["--output", "out"], []])
def test_a_dry_run_writes_nothing(capsys, tmp_path, monkeypatch, tree, goal):
    monkeypatch.chdir(tmp_path)
    before = contents(tree)
    assert main(["compress", str(tree), "--dry-run", *goal]) == 0
    assert contents(tree) == before
    assert not Path("out").exists()
    shown = capsys.readouterr().out
    assert "nothing was written" in shown
    assert ["compressed", "2"] in [line.split() for line in shown.splitlines()]


def test_what_is_no_dicom_or_broken_is_named(capsys, tmp_path, tree):
    (tree / "notes.txt").write_text("hello")
    (tree / "empty").touch()
    (tree / "cut.dcm").write_bytes(CT.read_bytes()[:20000])
    bare = CT.read_bytes()[132:]
    (tree / "bare.dcm").write_bytes(bare)  # a data set without preamble is no DICOM file
    assert main(["compress", str(tree), "--output", str(tmp_path / "out")]) == 1
    shown = capsys.readouterr()
    for name in ("notes.txt", "empty", "cut.dcm", "bare.dcm"):
        assert f"dcmpress: {tree / name}: " in shown.err
    after = contents(tmp_path / "out")
    assert after["cut.dcm"] == CT.read_bytes()[:20000]  # nothing is lost with a mirror
    assert not {"notes.txt", "empty", "bare.dcm"} & set(after)
    assert syntax(tmp_path / "out" / "ct.dcm") == RLELossless
    assert ["no", "DICOM", "3", "left", "alone"] in [x.split() for x in shown.out.splitlines()]


WORDS = [
    "compress a --output b",
    "compress a b c --in-place",
    "compress --output=b a --jobs 3 --dry-run",
    "compress a --output b --jobs=1 --transcode --encoder gdcm --verify independent",
    "compress --transfer-syntax JPEGLSLossless --verify false --in-place a",
]
NOT_PLAIN = [
    "compress",
    "compress --help",
    "compress a --jobs 0",
    "compress a --jobs",
    "compress a --encoder nobody",
    "compress a --in-place=yes",
    "compress --output",
    "compress a -x",
    "check a",
    "--version",
    "",
]


@pytest.mark.parametrize("line", WORDS)
def test_a_plain_command_line_is_read_as_typer_reads_it(monkeypatch, line):
    asked: list[plain.Wanted] = []
    monkeypatch.setattr(compressing, "run", lambda wanted: asked.append(wanted) or 0)
    assert main(line.split()) == 0
    monkeypatch.setattr(plain, "read", lambda args: None)
    assert main(line.split()) == 0
    assert asked[0] == asked[1]


@pytest.mark.parametrize("line", NOT_PLAIN)
def test_what_is_not_plain_is_left_to_typer(line):
    assert plain.read(line.split()) is None


def test_every_option_is_read_plainly():
    from node.cli.commands import load

    options = {name for parameter in load("compress").params for name in parameter.opts}
    assert options - {"paths"} == {*plain._FLAGS, *plain._READERS}


#: Each takes longer to import than a CT image to compress.
HEAVY = ("numpy", "pydicom", "typer", "rich", "pydantic", "logging", "multiprocessing", "socket")
#: And these than a frame to encode.
HEAVY += ("dataclasses", "inspect", "pathlib")


@pytest.mark.parametrize("jobs", ["1", "2"])
@pytest.mark.parametrize(
    "name", ["CT_small.dcm", "MR_small_implicit.dcm", "MR_small_bigendian.dcm"]
)
def test_compressing_imports_nothing_heavy(tmp_path, name, jobs):
    """The time to start is most of the time that a folder of images takes."""
    code = (
        f"import os, sys; before = {{*sys.modules}}; from node.cli import main; "
        f"code = main(sys.argv[1:]); new = {{*sys.modules}} - before; "
        f"print(code, sorted(new & {{*{HEAVY}}}))"
    )
    (tmp_path / "in").mkdir()
    for copy in range(2):
        shutil.copyfile(SAMPLES / name, tmp_path / "in" / f"{copy}.dcm")
    words = ["compress", str(tmp_path / "in"), "--output", str(tmp_path / "out"), "--jobs", jobs]
    shown = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=True
    )
    assert shown.stdout.splitlines()[-1] == "0 []"
    assert syntax(tmp_path / "out" / "0.dcm") == RLELossless


def test_transcoding(tmp_path, tree):
    out = tmp_path / "out"
    assert main(["compress", str(tree), "--output", str(out), "--transcode"]) == 0
    assert syntax(out / "j2k") == RLELossless
    assert same_pixels(tree / "j2k", out / "j2k")
    assert (out / "a" / "rle.dcm").read_bytes() == RLE.read_bytes()


def test_transcoding_without_a_decoder(capsys, tmp_path, tree, monkeypatch):
    """What to install is said once, and the file is kept."""
    from pydicom.pixels.decoders import JPEG2000LosslessDecoder

    monkeypatch.setattr(JPEG2000LosslessDecoder, "_available", {})
    shutil.copyfile(J2K, tree / "j2k-again")
    out = tmp_path / "out"
    assert main(["compress", str(tree), "--output", str(out), "--transcode"]) == 0
    assert (out / "j2k").read_bytes() == J2K.read_bytes()
    shown = capsys.readouterr()
    assert shown.err.count("pip install pylibjpeg-openjpeg") == 1
    assert ["kept", "2", "no", "decoder", "installed"] in [
        line.split() for line in shown.out.splitlines()
    ]


@pytest.mark.parametrize(
    ("options", "uid"),
    [
        (["--encoder", "pylibjpeg"], RLELossless),
        (["--transfer-syntax", "JPEG2000Lossless"], JPEG2000Lossless),
        (["--verify", "independent"], RLELossless),
        (["--verify", "false", "--jobs", "1"], RLELossless),
    ],
)
def test_how_is_chosen(tmp_path, tree, options, uid):
    out = tmp_path / "out"
    assert main(["compress", str(tree / "ct.dcm"), "--output", str(out), *options]) == 0
    assert syntax(out / "ct.dcm") == uid
    assert same_pixels(tree / "ct.dcm", out / "ct.dcm")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["{tree}"], 2, "say where the result goes"),
        (["{tree}", "--in-place", "--output", "o"], 2, "do not go together"),
        (["{tree}", "--output", "{tree}"], 2, "would replace the original"),
        (["{tree}/ct.dcm", "{tree}/copy/ct.dcm", "--output", "o"], 2, "would both become"),
        (["nowhere", "--in-place"], 66, "there is no file or folder nowhere"),
        (["/dev/null", "--in-place"], 2, "neither a file nor a folder"),
        (["{tree}", "--output", "{tree}/ct.dcm/x"], 73, "ct.dcm"),
    ],
)
def test_what_cannot_be_done(capsys, tmp_path, monkeypatch, tree, words, code, said):
    monkeypatch.chdir(tmp_path)
    (tree / "copy").mkdir()
    shutil.copyfile(CT, tree / "copy" / "ct.dcm")
    before = contents(tree)
    assert main(["compress", *(word.format(tree=tree) for word in words)]) == code
    assert said in capsys.readouterr().err
    assert contents(tree) == before
    assert not (tmp_path / "o").exists()


def test_a_file_given_twice_is_done_once(capsys, tree):
    link = tree.parent / "link"
    link.symlink_to(tree)
    words = [str(tree / "ct.dcm"), str(tree), str(link), str(tree / "a" / ".." / "ct.dcm")]
    assert main(["compress", *words, "--in-place"]) == 0
    assert ["files", "5"] in [line.split() for line in capsys.readouterr().out.splitlines()]


def test_several_folders_keep_their_names(tmp_path, tree):
    other = tmp_path / "other"
    other.mkdir()
    shutil.copyfile(CT, other / "ct.dcm")
    out = tmp_path / "out"
    assert main(["compress", str(tree), str(other), "--output", str(out)]) == 0
    assert (out / "tree" / "a" / "b" / "plan").is_file()
    assert (out / "other" / "ct.dcm").is_file()


def test_an_output_within_the_input_is_not_input(tree):
    out = tree / "out"
    for _ in range(2):
        assert main(["compress", str(tree), "--output", str(out)]) == 0
        assert sorted(path.name for path in out.iterdir()) == ["a", "ct.dcm", "j2k"]


def test_links_and_pipes_are_passed_over(capsys, tmp_path, tree):
    outside = tmp_path / "outside.dcm"
    shutil.copyfile(CT, outside)
    (tree / "link.dcm").symlink_to(outside)
    (tree / "folder").symlink_to(tmp_path)
    os.mkfifo(tree / "pipe")
    assert main(["compress", str(tree), "--in-place"]) == 0
    assert outside.read_bytes() == CT.read_bytes()
    assert (tree / "link.dcm").is_symlink()
    shown = capsys.readouterr().err
    assert f"{tree / 'link.dcm'}: passed over" in shown
    assert f"{tree / 'folder'}: passed over" in shown


def test_a_full_disk_ends_the_command(capsys, monkeypatch, tree):
    """The first write fails, as on a full disk: the originals are whole, and 73 says why."""
    before = contents(tree)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("node.service.rewriting.write_planned", full)
    assert main(["compress", str(tree), "--in-place"]) == 73
    assert "No space left on device" in capsys.readouterr().err
    assert contents(tree) == before


def test_a_file_that_changes_meanwhile_is_not_replaced(monkeypatch, tmp_path):
    image = tmp_path / "ct.dcm"
    shutil.copyfile(CT, image)
    from node.service import rewriting

    write = rewriting.write_planned

    def write_late(*arguments: object) -> object:
        os.utime(image, ns=(1, 1))
        return write(*arguments)

    monkeypatch.setattr(rewriting, "write_planned", write_late)
    result = Rewriter(options=Options(), place=InPlace()).rewrite(Task(str(image), str(image)))
    assert isinstance(result, Broken)
    assert image.read_bytes() == CT.read_bytes()
    assert list(tmp_path.iterdir()) == [image]


def test_a_worker_that_dies_costs_one_file(tmp_path, monkeypatch):
    """Three files an order, so that the one that died leaves some of its order undone."""
    monkeypatch.setattr(batch, "_MOST_ORDERS", 4)
    names = [f"{number}.dcm" for number in range(9)]
    names.insert(5, "deadly.dcm")
    names.insert(3, "deadly/deadly.dcm")
    (tmp_path / "deadly").mkdir()
    (tmp_path / "out" / "deadly").mkdir(parents=True)
    for name in names:
        shutil.copyfile(CT, tmp_path / name)
    tasks = [Task(str(tmp_path / name), str(tmp_path / "out" / name)) for name in names]
    rewriter = Deadly(options=Options(), place=Mirror(), transcode=True)
    with batch.started(rewriter, tasks, jobs=2) as results:
        done = dict(results)
    assert len(done) == len(tasks)
    for task, result in done.items():
        if task.source.endswith("deadly.dcm"):
            assert isinstance(result, Broken)
            assert "died" in result.cause
            assert Path(task.target).read_bytes() == CT.read_bytes()
        else:
            assert isinstance(result, Smaller)


@pytest.mark.parametrize("jobs", [2, 5, 100])
def test_workers_do_what_one_process_does(tmp_path, tree, jobs):
    rewriter = Rewriter(options=Options(), place=Mirror())
    files = [path for path in sorted(tree.rglob("*")) if path.is_file()]
    written = []
    for number in (1, jobs):
        out = tmp_path / str(number)
        out.mkdir()
        tasks = [Task(str(path), str(out / path.name)) for path in files]
        with batch.started(rewriter, tasks, number) as results:
            assert len(list(results)) == len(files)
        written.append(contents(out))
    assert written[0] == written[1]


def test_workers_end_when_nobody_listens(tmp_path):
    """As after Ctrl-C: no process is left, and what was written is whole."""
    names = [f"{number}.dcm" for number in range(50)]
    for name in names:
        shutil.copyfile(CT, tmp_path / name)
    tasks = [Task(str(tmp_path / name), str(tmp_path / name)) for name in names]
    rewriter = Rewriter(options=Options(), place=InPlace())
    with batch.started(rewriter, tasks, jobs=2) as results:
        next(results)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    assert 1 <= sum(syntax(tmp_path / name) == RLELossless for name in names) < 50


@pytest.mark.parametrize("seed", range(3))
def test_a_killed_run_leaves_whole_files(tmp_path, seed):
    """SIGKILL in the middle of --in-place: each file is the old or the new one, and the next run
    finishes the work and clears drafts away."""
    for number in range(300):
        shutil.copyfile(CT, tmp_path / f"{number:03}.dcm")
    expected = pixel_array(CT, raw=True)
    wanted = random.Random(seed).randrange(1, 150)
    command = [sys.executable, "-m", "node", "compress", str(tmp_path), "--in-place", "--jobs", "2"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True) as process:
        peers.wait_until(lambda: replaced(tmp_path) >= wanted, "some files are replaced")
        os.killpg(process.pid, signal.SIGKILL)  # its workers too: one alive would change a file yet
    (tmp_path / ".dcmpress-0123456789abcdef.part").write_bytes(b"left behind")
    files = sorted(tmp_path.glob("*.dcm"))
    assert len(files) == 300
    for path in files:
        assert np.array_equal(pixel_array(path, raw=True), expected)
    assert main(["compress", str(tmp_path), "--in-place"]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in files}
    assert replaced(tmp_path) == 300


def replaced(folder: Path) -> int:
    size = CT.stat().st_size
    return sum(path.stat().st_size < size for path in folder.glob("[0-9]*.dcm"))


@pytest.mark.corpus
def test_the_corpus_comes_back(tmp_path, counted):
    """Each file of the corpus, with --transcode: never another pixel, never a file lost."""
    root = corpus.corpus_root()
    if root is None:
        pytest.skip(corpus.ABSENT)
    rows = [row for row in corpus.native_rows() if int(row["size"]) < 4_000_000]
    out = tmp_path / "out"
    main(["compress", str(root), "--output", str(out), "--jobs", "2"])
    compared = 0
    for row in rows:
        source, target = root / row["path"], out / row["path"]
        if source.read_bytes()[128:132] != b"DICM":
            continue
        assert target.is_file(), row["path"]
        if target.read_bytes() != source.read_bytes():
            assert same_pixels(source, target), row["path"]
            compared += 1
    assert compared > 100
    counted.append(f"compress: {compared} files of the corpus are smaller and decode the same")


@pytest.mark.parametrize(
    "words", [["serve", "--port", "0", "--status-port", "0"], ["compress", str(CT), "--dry-run"]]
)
def test_an_encoder_that_is_not_installed_is_said_at_start(tmp_path, words):
    code = (
        "import sys; sys.modules['gdcm'] = None; from node.cli import main; "
        "sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, *words, "--encoder", "gdcm"]
    shown = subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"XDG_STATE_HOME": str(tmp_path)},
        timeout=60,
    )
    assert shown.returncode == 78, shown.stderr
    assert "pip install python-gdcm" in shown.stderr


def test_an_encoder_that_there_is_not_is_said_at_start(capsys):
    assert main(["serve", "--encoder", "nobody"]) == 78
    assert "--encoder nobody" in capsys.readouterr().err
    assert main(["compress", str(CT), "--dry-run", "--encoder", "nobody"]) == 2


@pytest.mark.parametrize(
    "result",
    [
        Smaller(2, 1),
        Same(KeepReason.DECODER_FAILED, 2, "on two\nlines, with ü and \udcff"),
        NotDicom("why"),
        Broken('"why"'),
    ],
)
def test_a_worker_is_heard_as_it_told(result):
    told = batch._told(7, result) + batch._told(8, Smaller(4, 3))
    unread = bytearray(told + b"[9, ")
    heard = list(batch._taken(unread))
    assert heard == [(7, result), (8, Smaller(4, 3))]
    assert type(heard[0][1]) is type(result)
    assert unread == b"[9, "
    with pytest.raises(CannotWrite, match="full"):
        batch._heard(batch._told(7, CannotWrite("full")))
