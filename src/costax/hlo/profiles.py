"""Profiles of `jax.profiler`: they embed the modules that ran, often many small ones beside the one that is meant."""

from __future__ import annotations

from typing import Any, Final

from google.protobuf.message import DecodeError

from costax.core.protobuf import message_classes
from costax.hlo.records import text

_MESSAGES: Final = message_classes(
    "costax.hlo.profile",
    {
        "Space": {"planes": (1, "bytes*")},
        "Plane": {"name": (2, "bytes"), "event_metadata": (4, "bytes*")},
        "EventEntry": {"value": (2, "EventMetadata")},
        "EventMetadata": {"name": (2, "bytes"), "stats": (5, "bytes*")},
    },
)
_PLANES: Final = (b"/host:", b"/device:")


def modules_of_profile(contents: bytes) -> list[str] | None:
    """Return the names of the modules that an xplane profile embeds; None if the bytes are no such profile."""
    if not any(start in contents for start in _PLANES):
        return None
    try:
        planes = [_decoded("Plane", raw) for raw in _decoded("Space", contents).planes]
        if not any(plane.name.startswith(_PLANES) for plane in planes):
            return None
        entries = [
            _decoded("EventEntry", raw).value
            for plane in planes
            if plane.name == b"/host:metadata"
            for raw in plane.event_metadata
        ]
    except DecodeError:
        return None
    return [text(entry.name) for entry in entries if entry.stats]


def _decoded(message: str, raw: bytes) -> Any:
    return _MESSAGES[message].FromString(raw)
