"""An event of the audit trail as the DICOM audit message that is sent to a syslog server.

`message` returns the XML of PS3.15 A.5.1 with the contents of A.5.3, or None where the Standard
has no message for an event (an association that was opened, a process that died); `syslog_line`
puts it behind an RFC 5424 header as PS3.15 A.6 asks. Pure: bytes out, nothing else.

The node never writes a patient's name or ID outside the instances, so the message "DICOM
Instances Transferred" leaves out the patient that A.5.3.7 lists: its Study Instance UIDs lead
there. Instances that were refused are counted in the trail and have no message of their own.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Final
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from node.events import (
    AssociationRefused,
    AuthenticationFailed,
    Event,
    InstancesReceived,
    InstancesSent,
    NodeStarted,
    NodeStopped,
    QueueAction,
    SettingsRefused,
    SettingsReloaded,
    Studies,
)
from node.settings.values import is_ip_address

#: Facility 10, security; severity 5, notice, as PS3.15 A.6 asks: 10 * 8 + 5.
_PRIORITY: Final = 85
_MESSAGE_ID: Final = "DICOM+RFC3881"
_BOM: Final = b"\xef\xbb\xbf"

#: Codes of the DICOM controlled terminology (PS3.16 Annex D) and what they mean.
_CODES: Final = {
    "110100": "Application Activity",
    "110104": "DICOM Instances Transferred",
    "110113": "Security Alert",
    "110114": "User Authentication",
    "110120": "Application Start",
    "110121": "Application Stop",
    "110122": "Login",
    "110126": "Node Authentication",
    "110131": "Software Configuration",
    "110132": "Use of Restricted Function",
    "110150": "Application",
    "110152": "Destination Role ID",
    "110153": "Source Role ID",
    "110180": "Study Instance UID",
    "110182": "Node ID",
}
#: EventOutcomeIndicator.
_SUCCESS, _MINOR_FAILURE = "0", "4"
_UNKNOWN_STUDY: Final = "unknown"


def message(event: Event, stamp: str, ae_title: str) -> bytes | None:
    """Return the audit message of an event of the node `ae_title`, in UTF-8."""
    root = _built(event, stamp, ae_title)
    if root is None:
        return None
    source = Element("AuditSourceIdentification", AuditSourceID=ae_title)
    SubElement(source, "AuditSourceTypeCode", {"csd-code": "4"})
    at = len(root.findall("EventIdentification") + root.findall("ActiveParticipant"))
    root.insert(at, source)
    body: bytes = ElementTree.tostring(root, "utf-8", xml_declaration=True)
    return body


def syslog_line(xml: bytes, stamp: str, host: str, process: int) -> bytes:
    """Return one syslog message (RFC 5424 6)."""
    name = "".join(c for c in host if "!" <= c <= "~")[:255] or "-"
    header = f"<{_PRIORITY}>1 {stamp} {name} dcmpress {process} {_MESSAGE_ID} - "
    return header.encode("ascii") + _BOM + xml


def _built(event: Event, stamp: str, us: str) -> Element | None:
    match event:
        case NodeStarted() | NodeStopped():
            kind = "110120" if isinstance(event, NodeStarted) else "110121"
            root = _root(stamp, "110100", "E", _SUCCESS, kind)
            _participant(root, us, role="110150")
        case AssociationRefused():
            text = f"association rejected: {event.cause}{_times(event.times)}"
            root = _alert(stamp, "110126", _MINOR_FAILURE, us, text, event.address)
            _participant(root, event.ae_title, event.address)
        case AuthenticationFailed():
            text = f"{event.cause}{_times(event.times)}"
            root = _root(stamp, "110114", "E", _MINOR_FAILURE, "110122", text)
            who = event.user or event.ae_title
            _participant(root, who, event.address, requestor=True)
            _participant(root, us)
        case SettingsReloaded():
            root = _alert(stamp, "110131", _SUCCESS, us, "new settings are in force", us)
        case SettingsRefused():
            text = f"new settings were not taken: {event.cause}"
            root = _alert(stamp, "110131", _MINOR_FAILURE, us, text, us)
        case QueueAction():
            text = f"{event.action}: {event.instances} instances of {event.destination}"
            root = _alert(stamp, "110132", _SUCCESS, us, text, event.destination)
            _participant(root, event.by)
        case InstancesReceived(studies=studies) if studies:
            root = _root(stamp, "110104", "C", _SUCCESS)
            _participant(root, event.ae_title, event.address, role="110153", requestor=True)
            _participant(root, us, role="110152")
            _studies(root, studies)
        case InstancesSent(studies=studies) if studies:
            root = _root(stamp, "110104", "C", _SUCCESS)
            _participant(root, us, role="110153", requestor=True)
            _participant(root, event.ae_title, event.address, role="110152")
            _studies(root, studies)
        case _:
            return None
    return root


def _times(times: int) -> str:
    return f" ({times} times since it was last told)" if times > 1 else ""


def _root(
    stamp: str, event_id: str, action: str, outcome: str, kind: str = "", description: str = ""
) -> Element:
    root = Element("AuditMessage")
    facts = {
        "EventActionCode": action,
        "EventDateTime": stamp,
        "EventOutcomeIndicator": outcome,
    }
    identification = SubElement(root, "EventIdentification", facts)
    _code(identification, "EventID", event_id)
    if kind:
        _code(identification, "EventTypeCode", kind)
    if description:
        SubElement(identification, "EventOutcomeDescription").text = _printable(description)
    return root


def _alert(stamp: str, kind: str, outcome: str, us: str, text: str, subject: str) -> Element:
    """Begin a Security Alert (PS3.15 A.5.3.11): we report, the subject is what it is about."""
    root = _root(stamp, "110113", "E", outcome, kind, text if outcome != _SUCCESS else "")
    _participant(root, us, requestor=True)
    about = SubElement(
        root,
        "ParticipantObjectIdentification",
        ParticipantObjectID=_printable(subject),
        ParticipantObjectTypeCode="2",
        ParticipantObjectTypeCodeRole="13",
    )
    _code(about, "ParticipantObjectIDTypeCode", "110182")
    SubElement(about, "ParticipantObjectName").text = _printable(subject)
    value = base64.b64encode(text.encode()).decode()
    SubElement(about, "ParticipantObjectDetail", type="Alert Description", value=value)
    return root


def _participant(
    root: Element, user: str, address: str = "", *, role: str = "", requestor: bool = False
) -> None:
    facts = {"UserID": _printable(user), "UserIsRequestor": str(requestor).lower()}
    if address:
        facts["NetworkAccessPointID"] = address
        facts["NetworkAccessPointTypeCode"] = "2" if is_ip_address(address) else "1"
    participant = Element("ActiveParticipant", facts)
    if role:
        _code(participant, "RoleIDCode", role)
    # Participants come before what they took part in.
    root.insert(1 + len(root.findall("ActiveParticipant")), participant)


def _studies(root: Element, studies: Studies) -> None:
    for uid, classes in studies.items():
        study = SubElement(
            root,
            "ParticipantObjectIdentification",
            ParticipantObjectID=uid or _UNKNOWN_STUDY,
            ParticipantObjectTypeCode="2",
            ParticipantObjectTypeCodeRole="3",
        )
        _code(study, "ParticipantObjectIDTypeCode", "110180")
        SubElement(study, "ParticipantObjectName").text = uid or _UNKNOWN_STUDY
        description = SubElement(study, "ParticipantObjectDescription")
        for sop_class, count in classes.items():
            SubElement(description, "SOPClass", UID=sop_class, NumberOfInstances=str(count))


def _code(parent: Element, name: str, code: str) -> None:
    facts = {"csd-code": code, "codeSystemName": "DCM", "originalText": _CODES[code]}
    SubElement(parent, name, facts)


def _printable(text: str) -> str:
    """Return text that XML 1.0 can hold, on one line: what is in it may come from a peer."""
    return "".join(_characters(text)).strip() or "-"


def _characters(text: str) -> Iterator[str]:
    for character in text:
        yield character if character.isprintable() else " "
