"""Content blocks of a request, read into parts."""

from collections.abc import Iterable, Iterator
from typing import assert_never

from trollproxy.chat import CacheLifetime, Media, Part, Text, Thinking, ToolCall, ToolResult
from trollproxy.wire.anthropic import shapes
from trollproxy.wire.anthropic.citations import read_citations
from trollproxy.wire.envelope import unseal

_Content = str | list[shapes.TextBlock] | None
_Shown = (
    shapes.TextBlock | shapes.ImageBlock | shapes.DocumentBlock | shapes.SearchResultBlock | shapes.ToolReferenceBlock
)


def read_mark(mark: shapes.Mark | None) -> CacheLifetime | None:
    return None if mark is None else mark.ttl or "5m"


def read_content(content: str | list[shapes.Block]) -> tuple[Part, ...]:
    if isinstance(content, str):
        return (Text(text=content),)
    parts: list[Part] = []
    for block in content:
        if isinstance(block, shapes.TextBlock):
            parts.append(_read_text(block))
        elif isinstance(block, shapes.ToolUseBlock):
            parts.append(_read_call(block))
        elif isinstance(block, shapes.ToolResultBlock):
            parts.append(_read_result(block))
        else:
            parts += _read_other(block)
    return tuple(parts)


def read_texts(content: _Content) -> tuple[Text, ...]:
    if isinstance(content, str):
        return (Text(text=content),)
    return tuple(map(_read_text, content)) if content else ()


def _read_call(block: shapes.ToolUseBlock) -> ToolCall:
    arguments = bytes(block.input).decode()
    return ToolCall(call_id=block.id, name=block.name, arguments=arguments, cache=read_mark(block.cache_control))


def _read_other(
    block: shapes.ThinkingBlock | shapes.RedactedThinkingBlock | shapes.FallbackBlock | _Shown,
) -> Iterable[Part]:
    match block:
        case shapes.ThinkingBlock():
            state = unseal(block.signature, "anthropic") if block.signature else None
            return (Thinking(text=block.thinking, state=state),)
        case shapes.RedactedThinkingBlock():
            return (Thinking(state=unseal(block.data, "anthropic"), is_redacted=True),)
        case shapes.FallbackBlock():
            return ()
        case _:
            return _read_shown(block)


def _read_shown(block: _Shown) -> Iterator[Text | Media]:
    match block:
        case shapes.TextBlock():
            yield _read_text(block)
        case shapes.ImageBlock():
            yield _read_image(block)
        case shapes.DocumentBlock():
            yield from _read_document(block)
        case shapes.SearchResultBlock():
            yield _read_search_result(block)
        case shapes.ToolReferenceBlock():
            yield Text(text=f"The tool `{block.tool_name}` can be called.", cache=read_mark(block.cache_control))
        case _:
            assert_never(block)


def _read_text(block: shapes.TextBlock) -> Text:
    if block.cache_control is None and not block.citations:
        return Text(text=block.text)
    citations = tuple(read_citations(block.citations or ()))
    return Text(text=block.text, cache=read_mark(block.cache_control), citations=citations)


def _read_image(block: shapes.ImageBlock) -> Media:
    cache = read_mark(block.cache_control)
    match block.source:
        case shapes.Base64Source(data=data, media_type=media_type):
            return Media(kind="image", data=data, media_type=media_type, cache=cache)
        case shapes.UrlSource(url=url):
            return Media(kind="image", url=url, cache=cache)
        case shapes.FileSource(file_id=file_id):
            return Media(kind="image", file_id=file_id, cache=cache)


def _read_document(block: shapes.DocumentBlock) -> Iterator[Text | Media]:
    source = block.source
    if isinstance(source, shapes.ContentSource) and _has_images(source):
        yield from _opened(source, block)
        return
    place: dict[str, str | None]
    match source:
        case shapes.Base64Source():
            place = {"data": source.data, "media_type": source.media_type}
        case shapes.UrlSource():
            place = {"url": source.url}
        case shapes.FileSource():
            place = {"file_id": source.file_id}
        case shapes.PlainSource():
            place = {"text": source.data}
        case shapes.ContentSource():
            place = {"text": _joined(_texts_of(source))}
    yield Media(
        kind="document",
        name=block.title,
        context=block.context,
        wants_citations=block.citations is not None and block.citations.enabled,
        cache=read_mark(block.cache_control),
        **place,  # type: ignore[arg-type]
    )


def _texts_of(source: shapes.ContentSource) -> Iterable[str]:
    if isinstance(source.content, str):
        return (source.content,)
    return (block.text for block in source.content if isinstance(block, shapes.TextBlock))


def _has_images(source: shapes.ContentSource) -> bool:
    return not isinstance(source.content, str) and any(isinstance(block, shapes.ImageBlock) for block in source.content)


def _opened(source: shapes.ContentSource, block: shapes.DocumentBlock) -> Iterator[Text | Media]:
    """A document of texts and images, piece by piece: only this vendor has a cover for such a thing."""
    title = "\n".join(filter(None, (block.title, block.context)))
    if title:
        yield Text(text=title)
    for piece in source.content:
        assert not isinstance(piece, str)
        yield from _read_shown(piece)


def _read_search_result(block: shapes.SearchResultBlock) -> Media:
    return Media(
        kind="document",
        text=_joined((block.source, *(text.text for text in block.content))),
        name=block.title,
        wants_citations=block.citations is not None and block.citations.enabled,
        cache=read_mark(block.cache_control),
    )


def _joined(texts: Iterable[str]) -> str:
    return "\n\n".join(texts)


def _read_result(block: shapes.ToolResultBlock) -> ToolResult:
    parts: tuple[Text | Media, ...]
    if isinstance(block.content, str):
        parts = (Text(text=block.content),)
    else:
        parts = tuple(part for inner in block.content or () for part in _read_shown(inner))
    return ToolResult(
        call_id=block.tool_use_id,
        parts=parts,
        is_error=bool(block.is_error),
        cache=read_mark(block.cache_control),
    )
