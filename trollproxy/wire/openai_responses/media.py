"""Images and files: data that the dialect writes as `data:` addresses, and addresses."""

import re

from trollproxy.chat import CacheLifetime, CannotSay, Media
from trollproxy.errors import InvalidRequest
from trollproxy.wire.openai_responses.shapes import InputAudio, InputFile, InputImage

_DATA = re.compile(r"data:(?P<type>[^;,]*)(?:;[^;,]*)*?;base64,", re.IGNORECASE)
_PDF = "application/pdf"
_UNNAMED = "document.pdf"  # the vendor wants a name for data
_EXTENSIONS = {".txt": "text/plain", ".md": "text/markdown", ".csv": "text/csv", ".json": "application/json"}


def read_image(part: InputImage, place: str, cache: CacheLifetime | None) -> Media:
    detail = part.detail if part.detail != "auto" else None
    if part.file_id is not None:
        return Media(kind="image", file_id=part.file_id, detail=detail, cache=cache)
    if not part.image_url:
        raise InvalidRequest(f"`{place}` must have an `image_url`.", param=place)
    data, media_type = _opened(part.image_url)
    if data is None:
        return Media(kind="image", url=part.image_url, detail=detail, cache=cache)
    return Media(kind="image", data=data, media_type=media_type, detail=detail, cache=cache)


def read_file(part: InputFile, place: str, cache: CacheLifetime | None) -> Media:
    detail = part.detail if part.detail != "auto" else None
    if part.file_id is not None:
        return Media(kind="document", file_id=part.file_id, name=part.filename, detail=detail, cache=cache)
    if part.file_url is not None:
        return Media(kind="document", url=part.file_url, name=part.filename, detail=detail, cache=cache)
    if part.file_data is None:
        raise InvalidRequest(f"`{place}` must have `file_data` or a `file_url`.", param=place)
    name = part.filename if part.filename != _UNNAMED else None
    data, media_type = _opened(part.file_data)
    if data is None:
        data, media_type = part.file_data, None
    media_type = media_type or _type_of(part.filename)
    return Media(kind="document", data=data, media_type=media_type, name=name, detail=detail, cache=cache)


def read_audio(part: InputAudio) -> Media:
    media_type = {"mp3": "audio/mpeg"}.get(part.input_audio.format, f"audio/{part.input_audio.format}")
    return Media(kind="audio", data=part.input_audio.data, media_type=media_type)


def _opened(address: str) -> tuple[str | None, str | None]:
    """Data and type of a `data:` address; no data where it is another."""
    opened = _DATA.match(address)
    return (address[opened.end() :], opened["type"] or None) if opened else (None, None)


def _type_of(name: str | None) -> str:
    extension = (name or "").lower()
    return next((kind for end, kind in _EXTENSIONS.items() if extension.endswith(end)), _PDF)


def write_media(media: Media) -> dict[str, object]:
    if media.kind == "image":
        return _with_detail({"type": "input_image", "image_url": media.url or _address(media)}, media)
    assert media.kind == "document", "the others are not in `carries`"
    if media.text is not None:
        return {"type": "input_text", "text": "\n\n".join(filter(None, (media.name, media.context, media.text)))}
    if media.url is not None:
        return _with_detail({"type": "input_file", "file_url": media.url}, media)
    part: dict[str, object] = {"type": "input_file", "filename": media.name or _UNNAMED, "file_data": _address(media)}
    return _with_detail(part, media)


def write_context(media: Media) -> dict[str, object] | None:
    """What a client tells of a document that is not a text itself."""
    if media.context is None or media.text is not None:
        return None
    return {"type": "input_text", "text": media.context}


def _with_detail(part: dict[str, object], media: Media) -> dict[str, object]:
    return part | {"detail": media.detail} if media.detail is not None else part


def _address(media: Media) -> str:
    if media.media_type is None and media.kind == "image":
        raise CannotSay("image_data", "its type is not told")
    return f"data:{media.media_type or _PDF};base64,{media.data}"
