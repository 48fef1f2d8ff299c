"""One class per failure, each carrying the exit code or the DIMSE status it implies.

Exit codes follow sysexits.h where one fits; the README lists them. A message is a sentence for
the person who must act: what is wrong first, then what to do. No message carries patient data.
"""

from __future__ import annotations

from node.dicom import status


class NodeError(Exception):
    """Base of all failures this program names. `exit_code` is what a command ends with."""

    exit_code = 1


class UsageError(NodeError):
    """The command line asks for something that cannot be."""

    exit_code = 2


class InputMissing(NodeError):
    """A file or folder that was named is not there."""

    exit_code = 66


class PeerUnreachable(NodeError):
    """No TCP connection, or no answer, from a peer."""

    exit_code = 69


class CannotWrite(NodeError):
    """A file, folder or port cannot be taken."""

    exit_code = 73


class PeerRefused(NodeError):
    """The peer answered, and said no."""

    exit_code = 77


class BadConfiguration(NodeError):
    """The settings cannot be used; the message lists every error."""

    exit_code = 78


class InstanceRefused(NodeError):
    """An instance that is answered with a failure status (PS3.4 B.2.3, PS3.7 Annex C).

    `dimse_status` is what the requestor gets, the message is its Error Comment (0000,0902).
    """

    dimse_status: int = status.CANNOT_UNDERSTAND


class CannotUnderstand(InstanceRefused):
    """The data set cannot be parsed."""

    dimse_status = status.CANNOT_UNDERSTAND


class DataSetMismatch(InstanceRefused):
    """The data set is not of the SOP class or instance that the command names."""

    dimse_status = status.DATA_SET_DOES_NOT_MATCH_SOP_CLASS


class InvalidSOPInstance(InstanceRefused):
    """A UID that is no UID (PS3.5 9.1)."""

    dimse_status = status.INVALID_SOP_INSTANCE


class OutOfResources(InstanceRefused):
    """The instance cannot be made safe now: disk full, unwritable, or over the size limit."""

    dimse_status = status.OUT_OF_RESOURCES


class EncodingFailed(NodeError):
    """An encoder could not encode a frame, or its result was not what went in."""


class DecodingFailed(NodeError):
    """A frame could not be decoded."""


class CodecFailed(NodeError):
    """The code of others failed, ended its process, or took too long or too much memory."""
