"""`node.dicom.vr_table` is pydicom's data dictionary, made by this file: run it after an update.

python tests/dicom/test_vr_table.py
"""

from __future__ import annotations

import textwrap
from collections import defaultdict
from pathlib import Path

from pydicom._dicom_dict import DicomDictionary, RepeatersDictionary

from node.dicom import dictionary, vr_table

HEAD = '''\
"""The VR of every tag in PS3.6.

Made from pydicom's data dictionary by tests/dicom/test_vr_table.py, which holds it to that. A
table of our own, because importing pydicom takes longer than compressing a hundred images. VRs are
as the dictionary writes them, ambiguous ones too; tags are in hexadecimal digits, those of
repeating groups with an x for each digit that may be any (PS3.5 7.6).
"""

from __future__ import annotations

from typing import Final

'''


def by_vr(entries):
    tags = defaultdict(list)
    for tag, entry in entries.items():
        tags[str(entry[0])].append(tag)
    return {vr: sorted(tags[vr]) for vr in sorted(tags)}


def table(name: str, tags_of) -> str:
    lines = [f"{name}: Final = {{"]
    for vr, tags in tags_of.items():
        digits = " ".join(tag if isinstance(tag, str) else f"{tag:08X}" for tag in tags)
        if len(digits) < 80:
            lines.append(f'    "{vr}": "{digits}",')
        else:
            lines += [f'    "{vr}": """', *textwrap.wrap(digits, 98), '""",']
    return "\n".join([*lines, "}\n"])


def module() -> str:
    return "\n".join(
        [
            HEAD + table("TAGS", by_vr(DicomDictionary)),
            table("REPEATING_TAGS", by_vr(RepeatersDictionary)),
        ]
    )


def test_the_table_is_what_pydicom_has():
    """Where this fails after an update of pydicom, run this file."""
    found = vars(vr_table)
    assert {vr: tags.split() for vr, tags in found["TAGS"].items()} == {
        vr: [f"{tag:08X}" for tag in tags] for vr, tags in by_vr(DicomDictionary).items()
    }
    assert {vr: tags.split() for vr, tags in found["REPEATING_TAGS"].items()} == by_vr(
        RepeatersDictionary
    )


def test_every_tag_is_found():
    for tag, entry in DicomDictionary.items():
        assert dictionary.vr_in_dictionary(tag) == entry[0], hex(tag)
    for pattern, entry in RepeatersDictionary.items():
        if "x" not in pattern[6:]:
            assert dictionary.vr_in_dictionary(int(pattern.replace("x", "0"), 16)) == entry[0]
    assert dictionary.vr_in_dictionary(0x00091001) is None


if __name__ == "__main__":
    Path(vr_table.__file__).write_text(module(), "utf-8")
