"""Settings: every error at once and where it was written; layers; documents that cannot drift.

`data/settings` has bad files, `NAME.toml` beside `NAME.expected`, the whole message word for word.
A regression is two more files.
"""

from __future__ import annotations

import ipaddress
import json
import pickle
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from node.errors import BadConfiguration, InputMissing, UsageError
from node.settings import (
    CompressionSettings,
    DiskDestination,
    NetworkDestination,
    NodeSettings,
    Peer,
    PeerAddress,
    Settings,
    SpoolSettings,
    StatusSettings,
    command_line_destinations,
    load,
    parse_peer,
)
from node.settings.locate import locate
from node.settings.reference import commented_file, markdown
from node.settings.schema import state_directory
from node.settings.summary import summary
from node.settings.toml import as_file

ROOT = Path(__file__).parent.parent
BAD_FILES = sorted((ROOT / "tests" / "data" / "settings").glob("*.toml"))
HOME = {"HOME": "/home/node"}


def write(folder: Path, text: str) -> Path:
    path = folder / "node.toml"
    path.write_text(text, encoding="utf-8")
    return path


# --- Bad files -----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", BAD_FILES, ids=lambda path: path.stem)
def test_bad_file_is_answered_word_for_word(path, monkeypatch):
    monkeypatch.chdir(path.parent)
    with pytest.raises(BadConfiguration) as caught:
        load(Path(path.name), environ=HOME)
    assert f"{caught.value}\n" == path.with_suffix(".expected").read_text(encoding="utf-8")
    assert caught.value.exit_code == 78


@pytest.mark.parametrize("path", BAD_FILES, ids=lambda path: path.stem)
def test_every_error_names_a_line_that_is_there(path, monkeypatch):
    monkeypatch.chdir(path.parent)
    lines = path.read_text(encoding="latin-1").split("\n")
    with pytest.raises(BadConfiguration) as caught:
        load(Path(path.name), environ=HOME)
    places = re.findall(rf"^{path.name}:(\d+):(\d+): error: ", str(caught.value), re.MULTILINE)
    for line, column in places:
        assert 1 <= int(column) <= len(lines[int(line) - 1]) + 1


def test_missing_file(tmp_path):
    with pytest.raises(InputMissing, match=r"there is no settings file .*nowhere\.toml") as caught:
        load(tmp_path / "nowhere.toml")
    assert caught.value.exit_code == 66


def test_a_folder_is_no_settings_file(tmp_path):
    with pytest.raises(BadConfiguration, match="cannot read"):
        load(tmp_path)


@pytest.mark.parametrize("text", ["", "\n", "# nothing\n", "[node]\n"])
def test_a_file_with_nothing_in_it_is_the_defaults(tmp_path, text):
    assert load(write(tmp_path, text)).settings == load(None).settings


def test_files_of_windows_editors(tmp_path):
    path = tmp_path / "node.toml"
    path.write_bytes(b'\xef\xbb\xbf[node]\r\nport = 104\r\nprot = "\r\n')
    with pytest.raises(BadConfiguration, match=r"node\.toml:3:9: error: this is not TOML"):
        load(path)
    path.write_bytes(b"\xef\xbb\xbf[node]\r\nport = 104\r\nprot = 1\r\n")
    with pytest.raises(BadConfiguration, match=r"node\.toml:3:1: error: unknown setting"):
        load(path)


# --- Where a key stands --------------------------------------------------------------------------

AWKWARD = {
    "bare": "a = 1\nb-c_d = 2",
    "no newline at the end": "a = 1",
    "indented, spaced": "  a   =\t'x'   # a = 3\n\t[ b ]  # [c]\n\t c=1",
    "quoted keys": '"a.b" = 1\n\'c"d\' = 2\n"e\\u0066\\"=" = 3\n"" = 4',
    "dotted keys": 'a.b.c = 1\na . "b" . d = 2\n3.14 = 5',
    "dotted headers": '[a.b]\nx = 1\n[a."c.d"]\nx = 2\n[a]\nx = 3',
    "arrays of tables": "[[a]]\nx = 1\n[[a]]\n[[a]]\nx = 3",
    "nested arrays of tables": "[[a]]\n[[a.b]]\nx=1\n[[a.b]]\n[a.b.c]\ny=3\n[[a]]\n[[a.b]]\nx=4",
    "inline tables": "a = { b = 1, c.d = 'x, y', e = { f = [1, {g = 2}] } }\nh = {}",
    "arrays over lines": "a = [ # one ]\n  1, # two\n\n  [2, '3 # ]'], ]\nb = []",
    "strings with signs": "a = \"# = [ { ' \\\" \\\\\"\nb = '\\'\nc = 1",
    "long strings": 'a = """\n[x]\ny = "1" \\\n""" # z\nb = \'\'\'\n[c]\n\'\'\'\nd = 1',
    "quotes that end long strings": 'a = """x"""""\nb = """y""""\nc = 1',
    "the same with the other quote": "a = '''x'''''\nb = '''y''''\nc = 1",
    "long strings of nothing": 'a = """"""\nb = \'\'\'\'\'\'\nc = """\\""""\nd = 1',
    "dates": "a = 1979-05-27 07:32:00Z\nb = [1979-05-27, 07:32:00]\nc = 1",
    "numbers": "a = +1_000\nb = 0xff\nc = -inf\nd = 6.02e-23\ne = [nan, 1.5,2]",
    "other line separators": "a = '\u2028\x85' # \u2028\nb = 1",
    "characters beyond the first plane": "a = '\U0001f642'  \nb = {c = '\U0001f642', d = 1}",
}


def flat(value, path=()):
    """Yield every path in a TOML value with what stands there."""
    if path:
        yield path, value
    if isinstance(value, dict):
        for key, item in value.items():
            yield from flat(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from flat(item, (*path, index))


def assert_located(text: str) -> None:
    """Every path has a mark, and what a mark of a value on one line covers is that value."""
    marks = locate(text)
    values = dict(flat(tomllib.loads(text)))
    assert marks.keys() == values.keys()
    lines = text.split("\n")
    for path, value in values.items():
        mark = marks[path].value
        covered = lines[mark.line - 1][mark.column - 1 :][: mark.width]
        if not isinstance(value, dict | list) and not covered.startswith(('"""', "'''")):
            assert repr(tomllib.loads(f"value = {covered}")["value"]) == repr(value)
        if isinstance(path[-1], str) and re.fullmatch(r"\w+", path[-1], re.ASCII):
            key = marks[path].key
            covered = lines[key.line - 1][key.column - 1 :][: key.width]
            assert path[-1] in covered or "\\u" in covered


@pytest.mark.parametrize("text", AWKWARD.values(), ids=AWKWARD.keys())
def test_locate_finds_every_key(text):
    assert_located(text)


def test_locate_takes_windows_line_ends():
    text = "[a]\nb = [\n1,\n]\n[[c]]\nd = '''\n\n'''\n"
    assert locate(text.replace("\n", "\r\n")) == locate(text)


@pytest.mark.parametrize("path", [ROOT / "pyproject.toml", ROOT / "config" / "node.toml"])
def test_locate_finds_every_key_of_real_files(path):
    assert_located(path.read_text(encoding="utf-8"))


# What a raw TOML string may hold, the signs that mislead a scanner more often than others.
plain_text = st.text(
    st.sampled_from("ab.=#[]{},'\"\\ \t\n\u00e9\u2028") | st.characters(codec="utf-8")
)
plain_text = plain_text.filter(lambda text: "\x7f" not in text)
toml_values = st.recursive(
    st.integers(-(2**63), 2**63 - 1) | st.booleans() | plain_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(plain_text, inner, max_size=3),
    max_leaves=8,
)


def inline(value) -> str:
    match value:
        case dict():
            return "{" + ", ".join(f"{inline(k)}={inline(v)}" for k, v in value.items()) + "}"
        case list():
            return "[ # ]\n" + ",\n ".join(map(inline, value)) + "]"
        case _:
            return json.dumps(value, ensure_ascii=False)


@given(st.dictionaries(plain_text, toml_values, min_size=1, max_size=4))
def test_locate_finds_every_key_of_any_file(tables):
    text = "".join(f"{inline(key)} = {inline(value)} # {{\n" for key, value in tables.items())
    marks = locate(text)
    assert marks.keys() == dict(flat(tomllib.loads(text))).keys()


# --- Layers --------------------------------------------------------------------------------------


def test_later_layers_count_more(tmp_path):
    path = write(
        tmp_path, "[node]\nae_title = 'FILE'\nhost = 'localhost'\nport = 1\nreceivers = 1\n"
    )
    environ = {
        "DCMPRESS__NODE__HOST": "::1",
        "DCMPRESS__NODE__PORT": "2",
        "dcmpress__node__receivers": "2",
        "DCMPRESS__STATUS__HOST": "",
        "DCMPRESS_OTHER": "not ours",
    }
    loaded = load(path, {"node.port": 3, "node.ae_title": None}, environ)
    node = loaded.settings.node
    assert (node.ae_title, node.host, node.port, node.receivers) == ("FILE", "::1", 3, 2)
    assert loaded.origins["node.ae_title"] == f"{path}:2:1"
    assert loaded.origins["node.host"] == "DCMPRESS__NODE__HOST"
    assert loaded.origins["node.receivers"] == "dcmpress__node__receivers"
    assert loaded.origins["node.port"] == "--port"
    assert loaded.origins["status.host"] == "default"


def test_every_setting_has_an_origin(tmp_path):
    path = write(tmp_path, "[[destination]]\nname = 'a'\ndirectory = 'b'\n")
    loaded = load(path, environ={"DCMPRESS__PEER": "[{ae_title='CT1', address='10.0.0.5'}]"})
    assert loaded.origins["peer[0].address"] == "DCMPRESS__PEER"
    assert loaded.origins["destination[0].directory"] == f"{path}:3:1"
    assert loaded.origins["destination[0].retry_seconds"] == "default"
    tables = loaded.settings.tables()
    count = sum(len(t) for t in tables.values() if isinstance(t, dict)) + 3 + 4
    assert len(loaded.origins) == count


@pytest.mark.parametrize(
    ("variable", "text", "read", "value"),
    [
        ("NODE__AE_TITLE", "104", lambda s: s.node.ae_title, "104"),  # text, not a number
        ("NODE__ANY_PEER", "true", lambda s: s.node.any_peer, True),
        ("NODE__STATE_DIRECTORY", "/x", lambda s: s.node.state_directory, Path("/x")),
        ("LIMITS__IDLE_SECONDS", "1.5", lambda s: s.limits.idle_seconds, 1.5),
        ("COMPRESSION__VERIFY", "false", lambda s: s.compression.verify, False),
        ("COMPRESSION__VERIFY", "independent", lambda s: s.compression.verify, "independent"),
        ("SPOOL__DURABILITY", "none", lambda s: s.spool.durability, "none"),
        ("LOG__FORMAT", "json", lambda s: s.log.format, "json"),
    ],
)
def test_variables_are_read_as_their_setting_asks(variable, text, read, value):
    assert read(load(None, environ={f"DCMPRESS__{variable}": text}).settings) == value


OUTSIDE_A_FILE = [
    (
        {"DCMPRESS__NODE__PORT": "dicom"},
        {},
        """\
DCMPRESS__NODE__PORT: error: port must be a whole number, not "dicom"
    DCMPRESS__NODE__PORT=dicom
                         ^^^^^""",
    ),
    (
        {"DCMPRESS__LOG__LVEL": "info"},
        {},
        """\
DCMPRESS__LOG__LVEL: error: unknown setting "lvel"
    DCMPRESS__LOG__LVEL=info
    ^^^^^^^^^^^^^^^^^^^
    hint: did you mean "level"?""",
    ),
    (
        {"DCMPRESS__TLS__KEY": "node.key"},
        {},
        """\
DCMPRESS__TLS__KEY: error: tls.key is given without tls.certificate
    DCMPRESS__TLS__KEY=node.key
                       ^^^^^^^^
    hint: name the certificate too, or take this out""",
    ),
    (
        {"DCMPRESS__DESTINATION__0__HOST": "x", "DCMPRESS__PORT": "1"},
        {},
        """\
DCMPRESS__DESTINATION__0__HOST: error: destination is a list, and given whole
    DCMPRESS__DESTINATION__0__HOST=x
    ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    hint: set destination to [{…}, {…}]
DCMPRESS__PORT: error: port is no setting
    DCMPRESS__PORT=1
    ^^^^^^^^^^^^^^
    hint: write a section and a setting, as in DCMPRESS__NODE__PORT""",
    ),
    (
        {"DCMPRESS__PEER": "CT1"},
        {},
        """\
DCMPRESS__PEER: error: peer is a list of tables
    DCMPRESS__PEER=CT1
                   ^^^
    hint: write [[peer]], with two brackets, above the settings of each""",
    ),
    (
        {},
        {"node.receivers": 0, "spool.durability": "maybe"},
        """\
--receivers: error: receivers must be at least 1, not 0
    --receivers 0
                ^
--durability: error: durability must be "fsync" or "none", not "maybe"
    --durability maybe
                 ^^^^^""",
    ),
    (
        {},
        {"node.host": "0.0.0.0"},
        """\
--host: error: host "0.0.0.0" can be reached from other machines, and nothing says who may send
    --host 0.0.0.0
           ^^^^^^^
    hint: add a [[peer]] with ae_title and address for each sender, or any_peer = true to let \
everyone in""",
    ),
    (
        {},
        {"destination": command_line_destinations(to=["PACS@10.0.0.5:104", "PACS@10.0.0.5:104"])},
        """\
--to: error: a destination before this one has the name "PACS_10.0.0.5_104" too
    --to PACS@10.0.0.5:104
         ^^^^^^^^^^^^^^^^^""",
    ),
]


@pytest.mark.parametrize(("environ", "overrides", "message"), OUTSIDE_A_FILE)
def test_errors_outside_a_file_name_the_variable_or_the_option(environ, overrides, message):
    with pytest.raises(BadConfiguration) as caught:
        load(None, overrides, environ)
    assert str(caught.value) == message


def test_errors_of_all_layers_are_told_at_once(tmp_path):
    path = write(tmp_path, "[node]\nport = -1\nprot = 1\n")
    with pytest.raises(BadConfiguration) as caught:
        load(path, {"node.receivers": 0}, {"DCMPRESS__LOG__LEVEL": "loud"})
    found = re.findall(r"^(\S+): error:", str(caught.value), re.MULTILINE)
    assert found == [f"{path}:2:8", f"{path}:3:1", "DCMPRESS__LOG__LEVEL", "--receivers"]


def test_a_variable_does_not_hide_that_its_section_is_broken(tmp_path):
    path = write(tmp_path, "node = 3\n")
    with pytest.raises(BadConfiguration, match=r"node\.toml:1:8: error: node is a section"):
        load(path, environ={"DCMPRESS__NODE__PORT": "104"})


def test_what_a_later_layer_replaces_is_not_looked_at(tmp_path):
    path = write(tmp_path, "[node]\nport = -1\n")
    assert load(path, {"node.port": 104}).settings.node.port == 104


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        (HOME, "/home/node/.local/state/dcmpress"),
        ({**HOME, "XDG_STATE_HOME": "/state"}, "/state/dcmpress"),
        ({**HOME, "XDG_STATE_HOME": "/state", "STATE_DIRECTORY": "/var/lib/x"}, "/var/lib/x"),
        ({"STATE_DIRECTORY": "/var/lib/x:/var/lib/y"}, "/var/lib/x"),
    ],
)
def test_state_directory(environ, expected):
    assert state_directory(environ) == Path(expected)
    assert load(None, environ=environ).settings.node.state_directory == Path(expected)


def test_every_command_finds_the_state_of_the_service_by_its_settings_file():
    file = Path("/etc/dcmpress/node.toml")
    assert state_directory(HOME, file) == Path("/var/lib/dcmpress")
    assert state_directory({"STATE_DIRECTORY": "/state"}, file) == Path("/state")
    assert state_directory(HOME, Path("node.toml")) == state_directory(HOME)


# --- The whole -----------------------------------------------------------------------------------


def test_without_a_destination_files_go_to_received(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    expected = DiskDestination(name="received", directory=tmp_path / "received")
    assert load(None).settings.destinations == (expected,)
    assert Settings().destinations == (expected,)


def test_settings_are_frozen_and_travel_between_processes():
    settings = load(None).settings
    with pytest.raises(ValidationError):
        settings.node.port = 1
    assert pickle.loads(pickle.dumps(settings)) == settings


def test_contradictory_settings_cannot_be_made_in_python_either():
    with pytest.raises(ValidationError, match="nothing says who may send"):
        Settings(node=NodeSettings(host="0.0.0.0"))
    with pytest.raises(ValidationError, match="both 8112"):
        Settings(node=NodeSettings(port=8112))


@pytest.mark.parametrize(
    ("listening", "page", "allowed"),
    [
        (("127.0.0.1", 104), ("127.0.0.1", 104), False),
        (("localhost", 104), ("127.0.0.1", 104), False),
        (("127.0.0.1", 104), ("127.0.0.2", 104), True),
        (("127.0.0.1", 104), ("0.0.0.0", 104), False),
        (("127.0.0.1", 0), ("127.0.0.1", 0), True),  # any free port, and no page
    ],
)
def test_the_port_and_the_page_do_not_collide(listening, page, allowed):
    parts = {
        "node": NodeSettings(host=listening[0], port=listening[1]),
        "status": StatusSettings(host=page[0], port=page[1]),
    }
    if allowed:
        Settings(**parts)
    else:
        with pytest.raises(ValidationError, match="are both 104"):
            Settings(**parts)


CT1 = Peer(ae_title="CT1", address="10.0.0.0/24")


@pytest.mark.parametrize(
    ("peers", "any_peer", "title", "address", "admitted"),
    [
        ((), False, "ANY", "127.0.0.1", True),
        ((), False, "ANY", "::1", True),
        ((), False, "ANY", "::ffff:127.0.0.1", True),
        ((), False, "ANY", "10.0.0.5", False),  # a socket unit may listen where nobody said so
        ((CT1,), False, "CT1", "10.0.0.5", True),
        ((CT1,), False, "CT1 ", "::ffff:10.0.0.5", True),  # IPv4 as a socket on :: sees it
        ((CT1,), False, "ct1", "10.0.0.5", False),  # AE titles have case (PS3.5 6.2)
        ((CT1,), False, "CT1", "10.0.1.5", False),
        ((CT1,), False, "CT1", "fd00::1", False),
        ((CT1,), True, "ANY", "10.0.1.5", True),
    ],
)
def test_who_is_admitted(peers, any_peer, title, address, admitted):
    settings = Settings(node=NodeSettings(any_peer=any_peer), peers=peers)
    assert settings.admits(title, address) is admitted


def test_questions_asked_of_settings():
    pacs = NetworkDestination(name="pacs", ae_title="PACS", host="[fd00::5]", port=104)
    relay = NetworkDestination(
        name="r", ae_title="R", host="r", port=104, mode="relay", calling_ae_title="US"
    )
    settings = Settings(destinations=(pacs, relay))
    assert str(pacs.address) == "PACS@[fd00::5]:104"
    assert settings.relay == relay
    assert Settings(destinations=(pacs,)).relay is None
    assert settings.calling_ae_title(pacs) == "DCMPRESS"
    assert settings.calling_ae_title(relay) == "US"


@pytest.mark.parametrize(
    ("given", "keyword", "uid"),
    [
        ("RLELossless", "RLELossless", "1.2.840.10008.1.2.5"),
        ("1.2.840.10008.1.2.4.80", "JPEGLSLossless", "1.2.840.10008.1.2.4.80"),
        ("none", "none", None),
    ],
)
def test_transfer_syntaxes_have_names_and_uids(given, keyword, uid):
    compression = CompressionSettings(transfer_syntax=given)
    assert (compression.transfer_syntax, compression.transfer_syntax_uid) == (keyword, uid)


def test_transfer_syntax_uids_are_those_of_the_standard():
    from pydicom import uid

    from node.dicom.uids import ENCODED_IN

    assert {name: getattr(uid, name) for name in ENCODED_IN} == ENCODED_IN


def test_a_laptop_may_do_without_a_reserve():
    assert SpoolSettings(reserve_bytes=0, reserve_percent=0).reserve_bytes == 0


def test_paths_are_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/node")
    assert DiskDestination(name="x", directory="a/b").directory == tmp_path / "a" / "b"
    assert DiskDestination(name="x", directory="~/a").directory == Path("/home/node/a")


# --- The command line ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("PACS@10.0.0.5:104", PeerAddress("PACS", "10.0.0.5", 104)),
        ("PACS@pacs.hospital:11112", PeerAddress("PACS", "pacs.hospital", 11112)),
        ("PACS@[fd00::5]:104", PeerAddress("PACS", "fd00::5", 104)),
        ("A@B C@host:1", PeerAddress("A@B C", "host", 1)),  # an @ and a space are allowed
    ],
)
def test_parse_peer(text, expected):
    assert parse_peer(text) == expected
    assert parse_peer(str(expected)) == expected


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "there is no @"),
        ("10.0.0.5:104", "there is no @"),
        ("PACS@10.0.0.5", "there is no port"),
        ("PACS@[fd00::5]", "there is no port"),
        ("PACS@fd00::5:104", "an IPv6 address stands in brackets, as in PACS@[fd00::5]:104"),
        ("PACS@host:dicom", 'the port "dicom" is not a number from 1 to 65535'),
        ("PACS@host:0", 'the port "0" is not a number from 1 to 65535'),
        ("PACS@host:65536", 'the port "65536" is not a number from 1 to 65535'),
        ("PACS@host:²", 'the port "²" is not a number from 1 to 65535'),
        ("PACS@:104", 'the host is "", neither an IP address nor a host name'),
        ("PACS@a b:104", 'the host is "a b", neither an IP address nor a host name'),
        ("@host:104", "the AE title is empty; an AE title has 1 to 16 characters"),
        ("SEVENTEEN_LETTERS@h:1", "the AE title has 17 characters; an AE title has 1 to 16"),
    ],
)
def test_parse_peer_says_what_is_wrong(text, why):
    with pytest.raises(UsageError) as caught:
        parse_peer(text)
    hint = "Write AET@HOST:PORT, for example PACS@10.0.0.5:104"
    assert str(caught.value) == f'"{text}" names no peer: {why}. {hint}'


def test_destinations_of_the_command_line():
    assert command_line_destinations() is None
    given = command_line_destinations("files", ["PACS@[fd00::5]:104"], "MAIN@host:11112")
    settings = load(None, {"destination": given}).settings
    disk, pacs, main = settings.destinations
    assert isinstance(disk, DiskDestination)
    assert (disk.name, disk.directory) == ("store", Path("files").absolute())
    assert (pacs.name, pacs.mode, str(pacs.address)) == (
        "PACS_fd00--5_104",
        "forward",
        "PACS@[fd00::5]:104",
    )
    assert main == settings.relay


@pytest.mark.parametrize("title", [".HIDDEN", "A B/C", "S"])
def test_names_made_from_peers_are_names(title):
    long_host = ".".join(["hospital"] * 12)
    (one,) = command_line_destinations(to=[f"{title}@{long_host}:104"])
    (other,) = command_line_destinations(to=[f"{title}@{long_host}:105"])
    assert one["name"] != other["name"]
    load(None, {"destination": [one, other]})


# --- Documents -----------------------------------------------------------------------------------


def test_the_shipped_file_is_made_from_the_schema():
    shipped = (ROOT / "config" / "node.toml").read_text(encoding="utf-8")
    assert shipped == commented_file(), "run `dcmpress config init > config/node.toml`"


def test_the_shipped_file_says_what_the_defaults_are():
    assert (
        load(ROOT / "config" / "node.toml", environ=HOME).settings
        == load(None, environ=HOME).settings
    )


def test_the_shipped_file_has_every_setting(tmp_path):
    shipped = (ROOT / "config" / "node.toml").read_text(encoding="utf-8")
    uncommented = re.sub(r"^#(?=\S)", "", shipped, flags=re.MULTILINE)
    loaded = load(write(tmp_path, uncommented), environ=HOME)
    assert len(loaded.settings.peers) == 1
    assert len(loaded.settings.destinations) == 2
    assert "default" not in loaded.origins.values()


def test_the_readme_has_every_setting():
    readme = ROOT / "README.md"
    if not readme.exists():
        pytest.skip("there is no README.md yet")
    assert markdown() in readme.read_text(encoding="utf-8"), (
        "paste what `python -m node.settings` prints into README.md"
    )


def test_the_table_is_printed_as_a_module():
    run = subprocess.run(
        [sys.executable, "-m", "node.settings"], capture_output=True, text=True, check=True
    )
    assert run.stdout == markdown()


def test_settings_written_as_a_file_are_the_same_settings(tmp_path):
    settings = Settings(
        peers=(CT1, Peer(ae_title="Q\"'", address=ipaddress.ip_network("fd00::/8"))),
        destinations=(
            DiskDestination(name="disk", directory=tmp_path / 'ü \\ "', retry_seconds=0.1),
            NetworkDestination(name="pacs", ae_title="PACS", host="pacs", port=104),
        ),
        compression=CompressionSettings(verify="independent"),
    )
    text = as_file(settings.tables(), {})
    assert load(write(tmp_path, text)).settings == settings


def test_the_json_schema_has_the_names_of_the_file():
    schema = Settings.model_json_schema()
    assert schema["properties"].keys() == Settings().tables().keys()
    assert schema["additionalProperties"] is False


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        (NodeSettings(), "from      anyone on this machine"),
        (NodeSettings(any_peer=True), "from      anyone who can reach the port"),
    ],
)
def test_summary_without_peers(node, expected):
    assert expected in summary(Settings(node=node))


def test_summary():
    settings = Settings(
        node=NodeSettings(state_directory="/state", host="0.0.0.0"),
        peers=(CT1, Peer(ae_title="MR1", address="10.0.1.5")),
        destinations=(
            DiskDestination(name="disk", directory="/srv/dicom"),
            NetworkDestination(name="pacs", ae_title="PACS", host="pacs", port=104, mode="relay"),
        ),
        compression=CompressionSettings(transfer_syntax="none"),
        status=StatusSettings(port=0),
    )
    assert (
        "\n".join(summary(settings))
        == """\
listens   as DCMPRESS on 0.0.0.0:11112
from      CT1 at 10.0.0.0/24 or MR1 at 10.0.1.5
encodes   nothing, all is kept as it comes
sends to  disk: folder /srv/dicom
          pacs: relay to PACS@pacs:104
spool     /state
status    none"""
    )


@pytest.mark.parametrize("text", ["a = " + "[" * 100_000, "a = " + "{b = " * 100_000])
def test_brackets_without_end(text, tmp_path):
    with pytest.raises(BadConfiguration, match=r"node\.toml"):
        load(write(tmp_path, text))
    with pytest.raises(BadConfiguration):
        load(None, environ={"DCMPRESS__PEER": text.removeprefix("a = ")})


@pytest.mark.parametrize(
    ("overrides", "environ", "named"),
    [
        ({}, {"DCMPRESS__NODE__AE_TITLE": "CT\udc8d"}, "DCMPRESS__NODE__AE_TITLE"),
        ({}, {"DCMPRESS__DESTINATION": '[{name = "\udc8d"}]'}, "DCMPRESS__DESTINATION"),
        ({"node.ae_title": "CT\udc8d"}, {}, "--ae-title"),
        ({"node.state_directory": Path("/x\udc8d")}, {}, "--state"),
    ],
)
def test_bytes_that_are_no_text(overrides, environ, named):
    """As the operating system hands them over: what is not UTF-8 is in surrogates."""
    with pytest.raises(BadConfiguration, match=f"{named}: error: this is not UTF-8 text"):
        load(None, overrides, environ)


def test_a_folder_whose_name_is_no_text():
    with pytest.raises(BadConfiguration, match="--store"):
        command_line_destinations(Path("/x\udc8d"))
