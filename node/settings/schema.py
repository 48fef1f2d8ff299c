"""Every setting, declared once: its name, type, default, unit, range and help.

The file, the environment, the command line, the JSON Schema and the documentation all come from
these models; an unknown key is an error. They are frozen and valid from birth. What cannot be
seen in one section alone is in `conflicts`, and `Settings`, the whole, in `whole`.

This module is longer than most because it is the table: splitting it would hide settings.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
)
from pydantic.fields import FieldInfo

from node.dicom.uids import ENCODED_IN
from node.settings.values import (
    Network,
    PeerAddress,
    check_ae_title,
    check_certificate_name,
    check_destination_syntax,
    check_file,
    check_folder_name,
    check_host,
    check_host_port,
    check_network,
    check_path,
    check_transfer_syntax,
    in_short,
    is_loopback,
    source_address,
    split_host_port,
)

AETitle: TypeAlias = Annotated[str, AfterValidator(check_ae_title)]
Host: TypeAlias = Annotated[str, AfterValidator(check_host)]
HostPort: TypeAlias = Annotated[str, AfterValidator(check_host_port)]
FolderName: TypeAlias = Annotated[str, AfterValidator(check_folder_name)]
Folder: TypeAlias = Annotated[Path, BeforeValidator(check_path)]
File: TypeAlias = Annotated[Path, BeforeValidator(check_file)]
CertificateName: TypeAlias = Annotated[str, AfterValidator(check_certificate_name)]
Addresses: TypeAlias = Annotated[Network, BeforeValidator(check_network)]
DestinationSyntax: TypeAlias = Annotated[str, AfterValidator(check_destination_syntax)]
TransferSyntax: TypeAlias = Annotated[str, AfterValidator(check_transfer_syntax)]

REQUIRED: Any = ...
FOR_READERS = ("unit", "option", "values", "default_text", "example")

MOST_RECEIVERS = 256
MOST_DESTINATION_ASSOCIATIONS = 32

#: Where the units in systemd/ have settings and state.
_SERVICE_CONFIG, _SERVICE_STATE = Path("/etc/dcmpress"), Path("/var/lib/dcmpress")

_MEBIBYTE = 1024 * 1024
_GIBIBYTE = 1024 * _MEBIBYTE
_DAY = 86400


def setting(default: Any, help: str, **facts: Any) -> Any:
    """Declare a setting.

    Facts for the reader: its `unit`, its `option` on the command line, its `values` in words where
    type and range do not tell, a `default_text` where the default is computed, and an `example`
    where there is no default to show. What else is given is for pydantic: `ge`, `le`,
    `default_factory`.
    """
    for_reader = {key: facts.pop(key) for key in FOR_READERS if key in facts}
    if "default_factory" not in facts:
        facts["default"] = default
    return Field(description=help, json_schema_extra=for_reader, **facts)


def state_directory(environ: Mapping[str, str], config: Path | None = None) -> Path:
    """Return where the spool is kept unless a setting says otherwise.

    `config` is the settings file. With the service's every command finds the service's state.
    """
    if given := environ.get("STATE_DIRECTORY"):
        return Path(given.split(":")[0]).absolute()  # systemd lists several with colons
    if is_of_service(config):
        return _SERVICE_STATE
    home = Path(environ.get("HOME") or Path.home())
    base = Path(environ.get("XDG_STATE_HOME") or home / ".local" / "state")
    return base.absolute() / "dcmpress"


def is_of_service(config: Path | None) -> bool:
    """Tell whether a settings file is that of the system's service."""
    return config is not None and config.absolute().parent == _SERVICE_CONFIG


def usable_cores() -> int:
    """Return how many cores this process may use, which in a container can be less than all."""
    if hasattr(os, "sched_getaffinity"):  # not everywhere outside Linux
        return min(len(os.sched_getaffinity(0)), MOST_RECEIVERS)
    return min(os.cpu_count() or 1, MOST_RECEIVERS)


class Section(BaseModel):
    """What all sections share: frozen, nothing unknown, no silent change of type."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class NodeSettings(Section):
    """Who we are, and where we listen."""

    ae_title: AETitle = setting(
        "DCMPRESS",
        "Our AE title. An association that calls another one is rejected.",
        values="1 to 16 characters",
        option="--ae-title",
    )
    host: Host = setting(
        "127.0.0.1",
        "The address to listen on. 0.0.0.0 or :: means all of this machine; any other than "
        "loopback asks for a list of peers, or for any_peer.",
        values="IP address or host name",
        option="--host",
    )
    port: int = setting(
        11112,
        "The port to listen on; 0 takes any free one. Those below 1024 need a privilege or "
        "the systemd socket unit.",
        ge=0,
        le=65535,
        option="--port",
    )
    receivers: int = setting(
        None,
        "Processes that receive and compress, sharing the port. More than there are cores "
        "gain nothing.",
        default_factory=usable_cores,
        default_text="number of cores",
        example=2,
        ge=1,
        le=MOST_RECEIVERS,
        option="--receivers",
    )
    state_directory: Folder = setting(
        None,
        "Where the spool lies. What was acknowledged and is not delivered is here, so it needs "
        "a disk that lasts. One node at a time.",
        default_factory=lambda: state_directory(os.environ),
        default_text="$STATE_DIRECTORY, else /var/lib/dcmpress with a file in /etc/dcmpress, else "
        "$XDG_STATE_HOME/dcmpress, else ~/.local/state/dcmpress",
        values="folder",
        example="/var/lib/dcmpress",
        option="--state",
    )
    any_peer: bool = setting(
        False,
        "Let anyone who can reach the port send, whatever the list of peers says.",
        option="--any-peer",
    )

    @property
    def loopback_only(self) -> bool:
        """Tell whether only this machine can reach the port."""
        return is_loopback(self.host)


class Peer(Section):
    """One who may send: the AE title it calls itself, with its address, its certificate or both."""

    ae_title: AETitle = setting(
        REQUIRED,
        "The AE title that the sender gives as its own.",
        values="1 to 16 characters",
        example="CT1",
    )
    address: Addresses | None = setting(
        None,
        "The address it sends from, or a block of addresses.",
        default_text="any, with a certificate",
        values="IP address or CIDR block",
        example="10.0.0.0/24",
    )
    certificate: CertificateName | None = setting(
        None,
        "The certificate that it proves to have, over TLS: its common name, one of its other "
        "names, or its SHA-256 fingerprint.",
        default_text="any, with an address",
        values="name or fingerprint",
        example="ct1.hospital.example",
    )

    @property
    def whence(self) -> str:
        """From where it may send, in words."""
        place = "anywhere" if self.address is None else in_short(self.address)
        return f"{place} with the certificate {self.certificate}" if self.certificate else place

    def admits(
        self, calling_ae_title: str, address: str, certificate_names: Set[str] = frozenset()
    ) -> bool:
        """Tell whether this entry lets in a requestor with that title, from that address."""
        if self.ae_title != calling_ae_title.strip(" "):
            return False
        if self.certificate is not None and self.certificate not in certificate_names:
            return False
        if self.address is None:
            return self.certificate is not None
        return source_address(address) in self.address


class TLSSettings(Section):
    """TLS 1.2 and 1.3 (PS3.15 B.12). A certificate switches it on."""

    certificate: File | None = setting(
        None,
        "Our certificate, with those between it and its CA below it. With one, node.port speaks "
        "TLS and nothing else, unless tls.port names another port for TLS.",
        default_text="none: no TLS",
        values="file, PEM",
        example="/etc/dcmpress/node.crt",
    )
    key: File | None = setting(
        None,
        "Its private key, readable by the node alone and without a password. "
        "$CREDENTIALS_DIRECTORY/node.key is one of systemd's LoadCredential.",
        default_text="in the certificate's file",
        values="file, PEM",
        example="/etc/dcmpress/node.key",
    )
    ca: File | None = setting(
        None,
        "The CA certificates that peers' certificates must come from.",
        default_text="none",
        values="file, PEM",
        example="/etc/dcmpress/ca.crt",
    )
    crl: File | None = setting(
        None,
        "The revocation lists of those CAs. With it, each CA needs one that is not out of date.",
        default_text="none",
        values="file, PEM",
        example="/etc/dcmpress/ca.crl",
    )
    verify_peer: Literal["require", "if-present", "off"] = setting(
        "require",
        "Whether a sender must have a certificate of those CAs. One that is shown and is not "
        'good is never taken, but with "off" none is asked for.',
    )
    port: int | None = setting(
        None,
        "A port for TLS beside node.port, which then stays without; 2762 is the registered one.",
        default_text="none: node.port speaks TLS",
        values="0 to 65535",
        example=2762,
        ge=0,
        le=65535,
    )
    profile: Literal["bcp195", "bcp195-modified"] = setting(
        "bcp195",
        "The cipher suites: those that BCP 195 recommends, or also the others that the Modified "
        "profile permits (PS3.15 B.13), for a peer that has none of the former.",
    )


class IdentitySettings(Section):
    """Users by name and passcode (PS3.7 D.3.3.7), beside what the list of peers asks for."""

    users: File | None = setting(
        None,
        "The file of users; `dcmpress user NAME` makes a line of it. A passcode is taken over TLS "
        "only. Without the file nobody is asked who they are.",
        default_text="none",
        values="file",
        example="/etc/dcmpress/users",
    )
    required: bool = setting(
        True,
        "Whether a sender must name a user. One that names a user who is not in the file, or gives "
        "another passcode, is rejected either way.",
    )


class LimitSettings(Section):
    """Bounds, so that no peer can stop another and memory has a formula."""

    associations: int = setting(
        100, "Associations at one time, in all. One more is rejected, transient.", ge=1, le=10000
    )
    associations_per_peer: int = setting(
        20,
        "Associations at one time from one address, so that one cannot take all.",
        ge=1,
        le=10000,
    )
    idle_seconds: float = setting(
        60,
        "An association on which nothing happens for so long is aborted.",
        unit="seconds",
        ge=1,
        le=_DAY,
    )
    artim_seconds: float = setting(
        10,
        "Time for a new connection to ask for an association (the ARTIM timer of PS3.8 9.1.5).",
        unit="seconds",
        ge=1,
        le=3600,
    )
    pdu_seconds: float = setting(
        60,
        "Time for one whole PDU to arrive once it has begun; it stops senders that drip.",
        unit="seconds",
        ge=1,
        le=3600,
    )
    instance_bytes: int = setting(
        4 * _GIBIBYTE,
        "The largest instance; a larger one is refused with A700.",
        unit="bytes",
        ge=1024,
        le=1024 * _GIBIBYTE,
    )
    codec_memory_bytes: int = setting(
        2 * _GIBIBYTE,
        "Memory for one process in which a codec of others works. What needs more stays as it "
        "came.",
        unit="bytes",
        ge=256 << 20,
        le=1024 * _GIBIBYTE,
    )
    codec_seconds: float = setting(
        60,
        "Time for one call of such a codec, and a second more for each megabyte. What takes "
        "longer stays as it came.",
        unit="seconds",
        ge=1,
        le=3600,
    )
    max_pdu_bytes: int = setting(
        128 * 1024,
        "The largest P-DATA-TF PDU we offer to receive. Larger ones save little.",
        unit="bytes",
        ge=4096,
        le=16 * _MEBIBYTE,
    )
    memory_bytes: int = setting(
        16 * _MEBIBYTE,
        "An instance up to this size is held in memory while it arrives, a larger one in the "
        "spool. Times the associations, this bounds the memory.",
        unit="bytes",
        ge=0,
        le=4 * _GIBIBYTE,
    )


class CompressionSettings(Section):
    """What becomes of pixel data that arrives uncompressed."""

    transfer_syntax: TransferSyntax = setting(
        "RLELossless",
        "The transfer syntax to encode in, always lossless. Others than RLE Lossless need an "
        'extra installed; "none" keeps everything as it comes.',
        values='"RLELossless", "JPEGLSLossless", "JPEG2000Lossless", "HTJ2KLossless", '
        'the UID of one, or "none"',
    )
    encoder: Literal["dcmpress", "pylibjpeg", "gdcm", "pydicom"] = setting(
        "dcmpress",
        "Which implementation encodes RLE Lossless; ours is the fastest. The other transfer "
        "syntaxes have one encoder each.",
        option="--encoder",
    )
    verify: Literal[True, False, "independent"] = setting(
        True,
        "Decode each encoded frame and compare it with the original before it replaces it: by "
        'our own decoder, or with "independent" by one that others wrote.',
    )
    beyond_table: bool = setting(
        False,
        "Also encode pixel data that PS3.5 Table 8.2.2-1 does not list for RLE Lossless. Some "
        "readers will not take it.",
    )
    threads: int = setting(
        1, "Frames of one instance that are encoded at the same time.", ge=1, le=256
    )

    @property
    def transfer_syntax_uid(self) -> str | None:
        """The UID to encode in, or None when compression is off."""
        return ENCODED_IN.get(self.transfer_syntax)


class SpoolSettings(Section):
    """How safe the spool is, and how full the disk may get."""

    durability: Literal["fsync", "none"] = setting(
        "fsync",
        '"fsync" acknowledges an instance only when a power cut cannot lose it. "none" is for '
        "scratch nodes and tests.",
        option="--durability",
    )
    reserve_bytes: int = setting(
        5 * _GIBIBYTE,
        "Space that stays free on the spool's disk: below it new associations are rejected and "
        "instances refused with A700, until a quarter more is free. The larger of this and "
        "reserve_percent counts.",
        unit="bytes",
        ge=0,
        le=1024 * 1024 * _GIBIBYTE,
    )
    reserve_percent: float = setting(
        5, "The same, as a share of the disk.", unit="percent", ge=0, le=90
    )


class DestinationSettings(Section):
    """What every destination has."""

    name: FolderName = setting(
        REQUIRED,
        "Its name in logs, on the status page and in the spool. Rename it only when its queue "
        "is empty.",
        values="1 to 64 letters, digits, dots, dashes, underscores",
        example="pacs",
    )
    retry_seconds: float = setting(
        1,
        "Wait before the second try; doubled after each further one.",
        unit="seconds",
        ge=0.1,
        le=_DAY,
    )
    retry_max_seconds: float = setting(
        300, "The longest wait between two tries.", unit="seconds", ge=0.1, le=_DAY
    )


class DiskDestination(DestinationSettings):
    """A folder: {StudyInstanceUID}/{SeriesInstanceUID}/{SOPInstanceUID}.dcm under it."""

    directory: Folder = setting(
        REQUIRED,
        "The folder to write to. It is made when it is not there.",
        values="folder",
        example="/srv/dicom",
    )


class NetworkDestination(DestinationSettings):
    """A downstream SCP, reached by C-STORE."""

    ae_title: AETitle = setting(
        REQUIRED, "The AE title to call.", values="1 to 16 characters", example="PACS"
    )
    host: Host = setting(
        REQUIRED, "Where it listens.", values="IP address or host name", example="10.0.0.5"
    )
    port: int = setting(REQUIRED, "The port it listens on.", ge=1, le=65535, example=104)
    mode: Literal["forward", "relay"] = setting(
        "forward",
        '"forward" keeps the instance safe here and sends it when it can. "relay" sends it while '
        "the modality waits, answers with this destination's own status, and keeps nothing.",
    )
    fallback: Literal["none", "spool"] = setting(
        "none",
        'What a relay does when its destination cannot be reached: "none" answers A700, so that '
        'the modality sends again. "spool" keeps the instance safe here, answers Success and '
        "sends it later.",
    )
    calling_ae_title: AETitle | None = setting(
        None,
        "The AE title to call ourselves.",
        default_text="node.ae_title",
        values="1 to 16 characters",
        example="DCMPRESS",
    )
    tls: bool = setting(
        False,
        "Send over TLS, and only to one whose certificate is good and has this host's name.",
        example=True,
    )
    tls_name: Host | None = setting(
        None,
        "The name that its certificate must have where that is not its host.",
        default_text="host",
        values="IP address or host name",
        example="pacs.hospital.example",
    )
    tls_certificate: File | None = setting(
        None,
        "The certificate to show it.",
        default_text="tls.certificate",
        values="file, PEM",
        example="/etc/dcmpress/to-pacs.crt",
    )
    tls_key: File | None = setting(
        None,
        "The private key of that certificate.",
        default_text="tls.key",
        values="file, PEM",
        example="/etc/dcmpress/to-pacs.key",
    )
    tls_ca: File | None = setting(
        None,
        "The CA certificates that its certificate must come from.",
        default_text="tls.ca",
        values="file, PEM",
        example="/etc/dcmpress/pacs-ca.crt",
    )
    transfer_syntax: DestinationSyntax = setting(
        "stored",
        '"stored" sends what is in the spool if the destination takes it, else decompressed. '
        '"native" always decompresses what we compressed. A lossless transfer syntax encodes in '
        'that if the destination takes it, else goes on as "stored" does.',
        values='"stored", "native", "RLELossless", "JPEGLSLossless", "JPEG2000Lossless", '
        '"HTJ2KLossless", or the UID of one',
    )
    associations: int = setting(
        1,
        "Associations at one time to this destination. With 1, instances arrive in the order in "
        "which they were received.",
        ge=1,
        le=MOST_DESTINATION_ASSOCIATIONS,
    )
    connect_seconds: float = setting(
        10,
        "Time for the TCP connection and for the answer to the association request.",
        unit="seconds",
        ge=0.1,
        le=3600,
    )
    response_seconds: float = setting(
        60,
        "Time for its answer to an instance, from the last byte that was sent.",
        unit="seconds",
        ge=0.1,
        le=3600,
    )

    @property
    def transfer_syntax_uid(self) -> str | None:
        """The UID of its own codec, or None where it names none."""
        return ENCODED_IN.get(self.transfer_syntax)

    @property
    def address(self) -> PeerAddress:
        """Whom to call, and where."""
        return PeerAddress(self.ae_title, self.host, self.port)


Destination: TypeAlias = DiskDestination | NetworkDestination


class StatusSettings(Section):
    """The status page, the metrics and the health checks."""

    host: Host = setting(
        "127.0.0.1",
        "The address of the status page. It asks for no password: leave it on loopback, or put "
        "a proxy that does in front.",
        values="IP address or host name",
    )
    port: int = setting(8112, "Its port; 0 means no page.", ge=0, le=65535, option="--status-port")
    name: Host | None = setting(
        None,
        "The name by which browsers reach it where that is neither this machine's own nor its "
        "address: that of a proxy in front, say. Requests for any other name are refused.",
        default_text="none",
        values="host name",
        example="dcmpress.example.org",
    )
    control: Literal["local", "anyone", "nobody"] = setting(
        "local",
        "Who may press its buttons (echo, pause, resume, retry, drop): requests from this machine, "
        "which those of a proxy on it are too, whoever reaches the page, or nobody.",
    )


class LogSettings(Section):
    """What is logged, and how."""

    level: Literal["debug", "info", "warning", "error"] = setting(
        "info", 'The least important kind of line to write; "info" has one line an association.'
    )
    format: Literal["text", "json"] = setting(
        "text", "Lines for people, or one JSON object a line for a log server."
    )


class AuditSettings(Section):
    """Who sent what and who was refused: a trail in the state directory, and a syslog server."""

    trail_bytes: int = setting(
        100 * _MEBIBYTE,
        "The audit trail in the state directory is kept up to this size; the oldest tenth goes "
        "first. It is also what waits for a syslog server that is down.",
        unit="bytes",
        ge=_MEBIBYTE,
        le=1024 * _GIBIBYTE,
    )
    syslog: HostPort | None = setting(
        None,
        "Send DICOM audit messages (PS3.15 A.5) to this syslog server.",
        default_text="none",
        values="HOST:PORT",
        example="10.0.0.9:6514",
    )
    protocol: Literal["tls", "tcp", "udp"] = setting(
        "tls",
        "How to reach it. The server's certificate must be good for its name. With UDP nobody "
        "notices what is lost on the way.",
    )
    ca: File | None = setting(
        None,
        "The certificates, PEM, that may have signed the syslog server's.",
        default_text="those this machine trusts",
        values="file",
        example="/etc/dcmpress/syslog-ca.crt",
    )

    @property
    def server(self) -> tuple[str, int] | None:
        """Host and port of the syslog server, if there is one."""
        return split_host_port(self.syslog) if self.syslog else None


def choices_of(field: FieldInfo) -> tuple[Any, ...]:
    """Return the values that a setting can take where they are a fixed few, else nothing."""
    return get_args(field.annotation) if get_origin(field.annotation) is Literal else ()


def fact(field: FieldInfo, name: str) -> Any:
    """Return what the declaration of a setting says for readers, one of `FOR_READERS`."""
    extra = field.json_schema_extra
    return extra.get(name) if isinstance(extra, dict) else None
