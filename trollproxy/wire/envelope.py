"""Carrying one vendor's opaque state through another vendor's field for such things.

A client replays the field unchanged, so the state comes back and is told apart from the field's own content by its
prefix. It is not secret and not signed: whoever forges one is refused by the vendor that checks it.
"""

from typing import get_args

from trollproxy.chat import FormatName, State

_PREFIX = "trollproxy:"
_FORMATS: frozenset[str] = frozenset(get_args(FormatName))


def seal(state: State, carrier: FormatName) -> str:
    """The text for the carrier's field: its own state as it is, another's in an envelope."""
    return state.data if state.origin == carrier else f"{_PREFIX}{state.origin}:{state.data}"


def unseal(text: str, carrier: FormatName) -> State:
    """What stands in the carrier's field."""
    if text.startswith(_PREFIX):
        origin, colon, data = text.removeprefix(_PREFIX).partition(":")
        if colon and origin in _FORMATS:
            return State(_as_format(origin), data)
    return State(carrier, text)


def _as_format(name: str) -> FormatName:
    return next(known for known in get_args(FormatName) if known == name)
