"""A syslog server for audit messages, and the schema of the Standard that they are held to."""

from __future__ import annotations

import base64
import contextlib
import re
import socket
import ssl
import threading
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

CODE = ("csd-code", "codeSystemName", "originalText")
#: PS3.15 A.5.1.1: element -> (required attributes, optional ones, children in order with ? * +).
SCHEMA = {
    "AuditMessage": ((), (), "EventIdentification ActiveParticipant+ AuditSourceIdentification "
                     "ParticipantObjectIdentification*"),
    "EventIdentification": (("EventDateTime", "EventOutcomeIndicator"), ("EventActionCode",),
                            "EventID EventTypeCode* EventOutcomeDescription?"),
    "EventID": (CODE, ("displayName",), ""),
    "EventTypeCode": (CODE, ("displayName",), ""),
    "EventOutcomeDescription": ((), (), ""),
    "ActiveParticipant": (("UserID", "UserIsRequestor"),
                          ("AlternativeUserID", "UserName", "NetworkAccessPointID",
                           "NetworkAccessPointTypeCode"), "RoleIDCode* MediaIdentifier?"),
    "RoleIDCode": (CODE, ("displayName",), ""),
    "AuditSourceIdentification": (("AuditSourceID",), ("AuditEnterpriseSiteID",),
                                  "AuditSourceTypeCode*"),
    "AuditSourceTypeCode": (("csd-code",), CODE[1:], ""),
    "ParticipantObjectIdentification": (
        ("ParticipantObjectID",),
        ("ParticipantObjectTypeCode", "ParticipantObjectTypeCodeRole",
         "ParticipantObjectDataLifeCycle", "ParticipantObjectSensitivity"),
        "ParticipantObjectIDTypeCode ParticipantObjectName ParticipantObjectDetail* "
        "ParticipantObjectDescription*"),
    "ParticipantObjectIDTypeCode": (CODE, ("displayName",), ""),
    "ParticipantObjectName": ((), (), ""),
    "ParticipantObjectDetail": (("type", "value"), (), ""),
    "ParticipantObjectDescription": ((), (), "MPPS* Accession* SOPClass*"),
    "SOPClass": (("NumberOfInstances",), ("UID",), "Instance*"),
}  # fmt: skip
VALUES = {
    "EventActionCode": "[CRUDE]",
    "EventOutcomeIndicator": "0|4|8|12",
    "EventDateTime": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z",
    "UserIsRequestor": "true|false",
    "NetworkAccessPointTypeCode": "[12345]",
    "ParticipantObjectTypeCode": "[1234]",
    "ParticipantObjectTypeCodeRole": r"[1-9]|1\d|2[0-6]",
    "NumberOfInstances": r"\d+",
    "UserID": "(?s).+",
}


def assert_valid(element: Element) -> None:
    """Hold an element, and all below it, to the schema of the Standard."""
    required, optional, children = SCHEMA[element.tag]
    assert set(required) <= set(element.attrib) <= {*required, *optional}, element.tag
    for name, value in element.attrib.items():
        assert re.fullmatch(VALUES.get(name, ".+"), value), (name, value)
    pattern = "".join(
        f"(?:{word.rstrip('?*+')} ){word[len(word.rstrip('?*+')) :]}" for word in children.split()
    )
    assert re.fullmatch(pattern, "".join(f"{child.tag} " for child in element)), element.tag
    for child in element:
        assert_valid(child)


class SyslogServer:
    """Takes messages by TCP or TLS until it is told to stop; `port` 0 takes a free one."""

    def __init__(self, port: int = 0, context: ssl.SSLContext | None = None) -> None:
        self.messages: list[bytes] = []
        self._context = context
        self._listening = socket.create_server(("127.0.0.1", port))
        self.port = int(self._listening.getsockname()[1])
        self._connections: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
                if self._context is not None:
                    connection = self._context.wrap_socket(connection, server_side=True)
            except OSError:
                if self._listening.fileno() < 0:
                    return
                continue
            self._connections.append(connection)
            threading.Thread(target=self._read, args=(connection,), daemon=True).start()

    def _read(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as file:
            while True:
                try:
                    digits = b""
                    while (byte := file.read(1)) not in (b" ", b""):
                        digits += byte
                    if not byte:
                        return
                    self.messages.append(file.read(int(digits)))
                except OSError:
                    return

    def stop(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def roots(self) -> list[Element]:
        """The messages that came, each held to the schema."""
        found = [ElementTree.fromstring(m.split(b"\xef\xbb\xbf", 1)[1]) for m in self.messages]
        for root in found:
            assert_valid(root)
        return found

    def actions(self) -> list[int]:
        """How many instances each action was of: the tests count with it."""
        found = []
        for root in self.roots():
            [detail] = root.iter("ParticipantObjectDetail")
            text = base64.b64decode(detail.attrib["value"]).decode()
            found.append(int(text.split()[1]))
        return found
