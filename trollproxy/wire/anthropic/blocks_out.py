"""Parts written as content blocks of a request."""

import base64
from collections.abc import Iterable

from trollproxy.chat import CacheLifetime, CannotSay, Media, Part, Text, Thinking, ToolCall, ToolResult
from trollproxy.wire.body import as_object

Block = dict[str, object]

_IMAGES = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
_PDF = "application/pdf"
# What base64 begins with, for clients that do not say what they send.
_BEGINNINGS = {"iVBOR": "image/png", "/9j/": "image/jpeg", "R0lGOD": "image/gif", "UklGR": "image/webp", "JVBER": _PDF}
_LONG = frozenset({"1h", "12h"})


def write_mark(cache: CacheLifetime) -> Block:
    return {"type": "ephemeral", "ttl": "1h"} if cache in _LONG else {"type": "ephemeral"}


def write_parts(parts: Iterable[Part], marked: list[Block]) -> list[Block]:
    """`marked` gets the blocks with a mark, inner ones before those around them."""
    return [_write_part(part, marked) for part in parts]


def _write_part(part: Part, marked: list[Block]) -> Block:
    if isinstance(part, Text):
        block: Block = {"type": "text", "text": part.text}
    elif isinstance(part, ToolCall):
        block = {"type": "tool_use", "id": part.call_id, "name": part.name, "input": as_object(part.arguments)}
    elif isinstance(part, ToolResult):
        block = _write_result(part, marked)
    elif isinstance(part, Media):
        block = _write_media(part)
    else:
        return _write_thought(part) if isinstance(part, Thinking) else {"type": "text", "text": part.text}
    if part.cache is not None:
        block["cache_control"] = write_mark(part.cache)
        marked.append(block)
    return block


def _write_thought(part: Thinking) -> Block:
    assert part.state is not None, "unsigned thoughts are left out before"
    if part.is_redacted:
        return {"type": "redacted_thinking", "data": part.state.data}
    return {"type": "thinking", "thinking": part.text, "signature": part.state.data}


def _write_result(result: ToolResult, marked: list[Block]) -> Block:
    block: Block = {"type": "tool_result", "tool_use_id": result.call_id}
    said = [part for part in result.parts if not isinstance(part, Text) or part.text]
    if len(said) == 1 and isinstance(said[0], Text) and said[0].cache is None:
        block["content"] = said[0].text
    elif said:
        block["content"] = write_parts(said, marked)
    if result.is_error:
        block["is_error"] = True
    return block


def _write_media(media: Media) -> Block:
    if media.kind == "image":
        return {"type": "image", "source": _image_source(media)}
    assert media.kind == "document", "sound and film are refused before"
    block: Block = {"type": "document", "source": _document_source(media)}
    if media.name is not None:
        block["title"] = media.name
    if media.context is not None:
        block["context"] = media.context
    if media.wants_citations:
        block["citations"] = {"enabled": True}
    return block


def _image_source(media: Media) -> Block:
    if media.url is not None:
        return {"type": "url", "url": media.url}
    assert media.data is not None, "files of other providers are refused before"
    media_type = _type_of(media)
    if media_type not in _IMAGES:
        raise CannotSay("image_data", f"images are JPEG, PNG, GIF or WebP there, not `{media_type}`")
    return {"type": "base64", "media_type": media_type, "data": media.data}


def _document_source(media: Media) -> Block:
    if media.url is not None:
        return {"type": "url", "url": media.url}
    if media.text is not None:
        return _plain(media.text)
    assert media.data is not None, "files of other providers are refused before"
    media_type = _type_of(media)
    if media_type == _PDF:
        return {"type": "base64", "media_type": _PDF, "data": media.data}
    if media_type is not None and media_type.startswith("text/"):
        return _plain(_decoded(media.data))
    raise CannotSay("document_data", f"documents are PDF or plain text there, not `{media_type}`")


def _plain(text: str) -> Block:
    return {"type": "text", "media_type": "text/plain", "data": text}


def _decoded(data: str) -> str:
    try:
        return base64.b64decode(data, validate=True).decode()
    except ValueError as error:  # no base64, not even ASCII, or no UTF-8 in it
        raise CannotSay("document_data", "the text is not UTF-8 in base64") from error


def _type_of(media: Media) -> str | None:
    if media.media_type is not None:
        return "image/jpeg" if media.media_type == "image/jpg" else media.media_type
    data = media.data or ""
    return next((kind for beginning, kind in _BEGINNINGS.items() if data.startswith(beginning)), None)
