"""Settings of compression and of destinations -> how the pixels room encodes."""

from __future__ import annotations

from node.errors import BadConfiguration
from node.pixels.codecs import check_installed
from node.pixels.policy import Options
from node.settings import CompressionSettings, NetworkDestination, Settings


def options_of(settings: CompressionSettings) -> Options:
    """Return the settings as the pixels room takes them."""
    return Options(
        transfer_syntax_uid=settings.transfer_syntax_uid or "",
        encoder=settings.encoder,
        verify=settings.verify,
        beyond_table=settings.beyond_table,
        threads=settings.threads,
    )


def codec_of(settings: Settings, destination: NetworkDestination) -> Options | None:
    """Return how a destination wants pixel data encoded; None where it names no codec."""
    uid = destination.transfer_syntax_uid
    if uid is None:
        return None
    return options_of(settings.compression)._replace(transfer_syntax_uid=uid)


def check_codecs(settings: Settings) -> None:
    """Raise `BadConfiguration` with every encoder that is named and not installed."""
    named = [options_of(settings.compression)]
    for destination in settings.destinations:
        if isinstance(destination, NetworkDestination):
            named += filter(None, [codec_of(settings, destination)])
    found = []
    for codec in named:
        try:
            check_installed(codec)
        except BadConfiguration as failure:
            found.append(str(failure))
    if found:
        raise BadConfiguration("\n".join(dict.fromkeys(found)))
