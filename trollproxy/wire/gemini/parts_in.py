"""The parts of a client's contents, and which result answers which call."""

from collections import OrderedDict, deque
from operator import attrgetter
from typing import TypeVar

import msgspec

from trollproxy.chat import Media, Part, Text, Thinking, ToolCall, ToolResult
from trollproxy.errors import InvalidRequest
from trollproxy.wire.body import UNSAID, decode_reply
from trollproxy.wire.gemini import shapes
from trollproxy.wire.gemini.media import inline_media, linked_media
from trollproxy.wire.gemini.signatures import read_signature

T = TypeVar("T")
_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_TEXT = msgspec.json.Decoder(str)
_RESOLUTION = msgspec.json.Decoder(dict[str, str | int | None])
_UNNAMED = "call_unnamed_"  # like no vendor's ids, by which thoughts are remembered
_DETAILS = {
    "MEDIA_RESOLUTION_LOW": "low",
    "MEDIA_RESOLUTION_MEDIUM": "auto",
    "MEDIA_RESOLUTION_HIGH": "high",
    "MEDIA_RESOLUTION_ULTRA_HIGH": "original",
}


def not_translatable(place: str) -> InvalidRequest:
    text = f"`{place}` has no meaning to this model's provider."
    return InvalidRequest(text, code="not_translatable", param=place)


def refuse(shape: shapes.Strict, place: str) -> None:
    """Refuse what is said in a member that has no words elsewhere."""
    kind = type(shape)
    if kind not in _LOOK or _LOOK[kind](shape) == _SILENT[kind]:
        return
    for name in shapes.REFUSED[kind]:
        if shapes.says(getattr(shape, name)):
            known = _SPELT[kind, name]
            raise not_translatable(f"{place}.{known}" if place else known)


_SPELT = {
    (shape, field.name): field.encode_name
    for shape in shapes.REFUSED
    for field in msgspec.structs.fields(shape)
    if field.name in shapes.REFUSED[shape]
}


# All of them at a glance. The first is named twice, since of a single name no tuple would come.
_LOOK = {shape: attrgetter(names[0], *names) for shape, names in shapes.REFUSED.items()}
_SILENT = {shape: (UNSAID,) * (len(names) + 1) for shape, names in shapes.REFUSED.items()}


def as_list(given: list[T] | T | None) -> list[T]:
    """The vendor takes a single object for a list of one."""
    if given is None:
        return []
    return given if isinstance(given, list) else [given]


class CallIds:
    """Ids of calls. Clients of this format may leave them out: then order and name tell what belongs together."""

    __slots__ = ("_by_name", "_made", "_open")

    def __init__(self) -> None:
        self._made = 0
        self._open: OrderedDict[str, bool] = OrderedDict()  # calls without a result -> whether the client wrote the id
        self._by_name: dict[str, deque[str]] = {}

    def of_call(self, given: str | None, name: str) -> str:
        self._made += 1
        call_id = given or f"{_UNNAMED}{self._made}"
        self._open[call_id] = bool(given)
        self._by_name.setdefault(name, deque()).append(call_id)
        return call_id

    def of_result(self, given: str | None, name: str) -> str:
        """By id, else the first open call of that name, else the first open one."""
        if given and given in self._open:
            found: str | None = given
        else:
            found = self._first_of(name)
            if given:
                # An id that no call has: the call may have been told without one.
                found = found if found is not None and not self._open[found] else given
            elif found is None:
                found = next(iter(self._open), None)
        if found is None:
            self._made += 1
            return f"{_UNNAMED}{self._made}"
        self._open.pop(found, None)
        return found

    def _first_of(self, name: str) -> str | None:
        waiting = self._by_name.get(name, deque())
        while waiting and waiting[0] not in self._open:
            waiting.popleft()
        return waiting[0] if waiting else None


def read_part(part: shapes.Part, place: str, ids: CallIds) -> Part:
    refuse(part, place)
    state = read_signature(part.thought_signature) if part.thought_signature is not None else None
    if part.function_call is not None:
        call = part.function_call
        refuse(call, f"{place}.functionCall")
        arguments = bytes(call.args).decode() if shapes.says(call.args) else ""
        call_id = ids.of_call(call.id, call.name)
        return ToolCall(call_id=call_id, name=call.name, arguments=arguments, state=state)
    if part.function_response is not None:
        return _read_result(part.function_response, f"{place}.functionResponse", ids)
    medium = _read_medium(part)
    if medium is not None:
        return msgspec.structs.replace(medium, state=state)
    if part.thought:
        is_redacted = part.text is None and state is not None
        return Thinking(text=part.text or "", state=state, is_redacted=is_redacted)
    if part.text is None and state is None:
        raise InvalidRequest(f"`{place}` must hold something.", param=place)
    return Text(text=part.text or "", state=state)


def _read_medium(part: shapes.Part | shapes.ResponsePart) -> Media | None:
    if part.inline_data is not None:
        blob = part.inline_data
        medium = inline_media(blob.mime_type, blob.data, blob.display_name)
    elif part.file_data is not None:
        file = part.file_data
        medium = linked_media(file.file_uri, file.mime_type, file.display_name)
    else:
        return None
    return msgspec.structs.replace(medium, detail=_detail_of(part.media_resolution) if medium.kind == "image" else None)


def _detail_of(resolution: msgspec.Raw) -> str | None:
    """The vendor's own word for it stands in an object."""
    found = decode_reply(_RESOLUTION, bytes(resolution)) or {}
    level = found.get("level")
    return _DETAILS.get(level.upper()) if isinstance(level, str) else None


def _read_result(response: shapes.FunctionResponse, place: str, ids: CallIds) -> ToolResult:
    refuse(response, place)
    text, is_error = _said_by(response.response)
    parts: list[Text | Media] = [Text(text=text)] if text else []
    for number, inner in enumerate(response.parts or ()):
        refuse(inner, f"{place}.parts[{number}]")
        medium = _read_medium(inner)
        if medium is None:
            raise InvalidRequest(f"`{place}.parts[{number}]` must hold something.", param=f"{place}.parts[{number}]")
        parts.append(medium)
    call_id = ids.of_result(response.id, response.name)
    return ToolResult(call_id=call_id, name=response.name or None, parts=tuple(parts), is_error=is_error)


def _said_by(raw: msgspec.Raw) -> tuple[str, bool]:
    """`output` and `error` are the vendor's own words; a response without them is the output as a whole."""
    members = decode_reply(_MEMBERS, bytes(raw)) or {}
    told = {name: value for name, value in members.items() if bytes(value) != b"null"}
    is_error = "error" in told
    if len(told) == 1 and ("output" in told or is_error):
        value = bytes(next(iter(told.values())))
        text = decode_reply(_TEXT, value)
        return value.decode() if text is None else text, is_error
    return bytes(raw).decode() if told else "", is_error
