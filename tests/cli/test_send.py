"""`dcmpress send`: to storescp, to a running node, and to an SCP with statuses of its own."""

from __future__ import annotations

from pathlib import Path

import peers
import pydicom
import pytest
from pydicom import examples
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from node.cli import main
from node.cli.send import Instance, batches
from node.dicom.contexts import MOST_CONTEXTS, Proposal, Wanted
from node.settings import DiskDestination

CT, MR = Path(examples.get_path("ct")), Path(examples.get_path("mr"))


@pytest.fixture
def series(tmp_path):
    """Three CT instances and one MR, in folders below one."""
    root = tmp_path / "series"
    (root / "below").mkdir(parents=True)
    for number in (1, 2, 3):
        dataset = pydicom.dcmread(CT)
        uid = f"{dataset.SOPInstanceUID}.{number}"
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = uid
        dataset.save_as(root / "below" / f"{number}.dcm")
    (root / "mr.dcm").write_bytes(MR.read_bytes())
    return root


def test_a_tree_arrives_at_storescp(capsys, tmp_path, series):
    with peers.storescp(tmp_path / "in") as port:
        assert main(["send", str(series), "--to", f"DOWNSTREAM@127.0.0.1:{port}"]) == 0
    assert len(list((tmp_path / "in").iterdir())) == 4
    shown = capsys.readouterr().out
    assert shown.startswith("delivered 4 instances (127 kB) to DOWNSTREAM@127.0.0.1:")


def test_a_tree_arrives_at_a_node_in_one_association(tmp_path, series, start_node):
    node = start_node(DiskDestination(name="disk", directory=tmp_path / "out"))
    host, port = node.address
    assert main(["send", str(series), "--to", f"DCMPRESS@{host}:{port}"]) == 0
    peers.wait_until(lambda: node.progress["disk"].delivered == 4, "four files are there")
    assert node.tally.associations == 1


def test_compressed_files_reach_a_peer_that_takes_only_native(tmp_path):
    rle = CT.with_name("MR_small_RLE.dcm")
    with peers.storescp(tmp_path / "in") as port:
        assert main(["send", str(rle), "--to", f"DOWNSTREAM@127.0.0.1:{port}"]) == 0
    [arrived] = (tmp_path / "in").iterdir()
    dataset = pydicom.dcmread(arrived)
    assert dataset.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert dataset.pixel_array.tobytes() == pydicom.dcmread(rle).pixel_array.tobytes()


def test_what_is_no_dicom_is_named_and_the_rest_goes_on(capsys, tmp_path, series):
    (series / "README").write_text("not DICOM")
    (series / "empty.dcm").touch()
    (series / "dicomdir").write_bytes((CT.parent / "dicomdirtests" / "DICOMDIR").read_bytes())
    with peers.storescp(tmp_path / "in") as port:
        assert main(["send", str(series), "--to", f"DOWNSTREAM@127.0.0.1:{port}"]) == 1
    shown = capsys.readouterr()
    assert f"{series / 'README'}: not a DICOM file" in shown.err
    assert f"{series / 'empty.dcm'}: the file is empty" in shown.err
    assert f"{series / 'dicomdir'}: not sent, a DICOMDIR is no instance" in shown.err
    assert "delivered 4 instances" in shown.out
    assert "2  failed" in shown.out


@pytest.mark.parametrize(
    ("statuses", "code", "delivered"),
    [
        ((0x0000,), 0, 3),
        ((0xB000,), 0, 3),  # a warning counts as delivered (PS3.4 B.2.3)
        ((0x0000, 0xA700, 0x0000), 1, 2),
        ((0xC000,), 1, 0),
    ],
)
def test_statuses(capsys, series, statuses, code, delivered):
    with peers.downstream(
        *statuses, sop_classes=[CTImageStorage], transfer_syntaxes=[ExplicitVRLittleEndian]
    ) as scp:
        to = f"DOWNSTREAM@127.0.0.1:{scp.port}"
        assert main(["send", str(series / "below"), "--to", to]) == code
    assert len(scp.received) == 3
    assert f"delivered {delivered} instance" in capsys.readouterr().out


def test_a_class_that_is_not_accepted_fails_alone(capsys, series):
    with peers.downstream(
        sop_classes=[CTImageStorage], transfer_syntaxes=[ExplicitVRLittleEndian]
    ) as scp:
        assert main(["send", str(series), "--to", f"DOWNSTREAM@127.0.0.1:{scp.port}"]) == 1
    assert len(scp.received) == 3
    assert "accepts MR Image Storage in none of" in capsys.readouterr().err


def test_nobody_there(capsys, series):
    to = f"PACS@127.0.0.1:{peers.free_port()}"
    assert main(["send", str(series), "--to", to]) == 69
    assert "Connection refused; 0 of 4 instances were delivered" in capsys.readouterr().err


def test_a_wrong_title_is_refused(series, start_node):
    host, port = start_node().address
    assert main(["send", str(series), "--to", f"SOMEONE@{host}:{port}"]) == 77


def test_a_missing_path(capsys, tmp_path):
    assert main(["send", str(tmp_path / "no"), "--to", "PACS@127.0.0.1:104"]) == 66
    assert "there is no file or folder" in capsys.readouterr().err


def test_batches_fit_the_contexts_of_an_association():
    wanted = [Wanted(f"1.2.{number % 100}", ("1", "2", "3")) for number in range(300)]
    instances = [Instance(Path(f"{n}"), w, 1) for n, w in enumerate(wanted)]
    found = list(batches(instances))
    assert sum(map(len, found)) == 300
    for batch in found:
        proposals = {
            Proposal(instance.wanted.sop_class_uid, syntax)
            for instance in batch
            for syntax in instance.wanted.transfer_syntax_uids
        }
        assert len(proposals) <= MOST_CONTEXTS
    assert len(found) == 3  # 42 classes of three contexts fit 128: 100 classes need three
