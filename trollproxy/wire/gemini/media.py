"""Images, documents, recordings and films: `inlineData` and `fileData`, both ways.

The vendor tells kinds apart by media type only, and wants one always; where none is known it is told by the address,
or the usual one of the kind is taken.
"""

import base64
import binascii
from urllib.parse import urlsplit

import msgspec

from trollproxy.chat import CannotSay, Media, MediaKind
from trollproxy.wire.gemini.signatures import standard_base64

_OWN_FILES = ("https://generativelanguage.googleapis.com/", "gs://")  # known to one account only
_FILMS = ("https://www.youtube.com/", "https://youtube.com/", "https://youtu.be/")
_TYPE_OF = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "gif": "image/gif",
    "heic": "image/heic",
    "pdf": "application/pdf",
    "txt": "text/plain",
    "md": "text/markdown",
    "csv": "text/csv",
    "html": "text/html",
    "json": "application/json",
    "wav": "audio/wav",
    "mp3": "audio/mp3",
    "flac": "audio/flac",
    "ogg": "audio/ogg",
    "mp4": "video/mp4",
    "mov": "video/quicktime",
    "webm": "video/webm",
}
_USUAL: dict[MediaKind, str] = {
    "image": "image/jpeg",
    "document": "application/pdf",
    "audio": "audio/wav",
    "video": "video/mp4",
}
_KINDS: dict[str, MediaKind] = {"image": "image", "audio": "audio", "video": "video"}


def inline_media(media_type: str, data: str, name: str | None = None) -> Media:
    """Text is carried as text, which every vendor takes in some form."""
    kind = kind_of(media_type)
    text = _text_of(data) if media_type.startswith("text/") else None
    if text is not None:
        told = None if media_type == "text/plain" else media_type
        return Media(kind=kind, text=text, media_type=told, name=name)
    return Media(kind=kind, data=standard_base64(data), media_type=media_type, name=name)


def linked_media(uri: str, media_type: str | None, name: str | None = None) -> Media:
    kind = kind_of(media_type or _type_by_address(uri) or "")
    if uri.startswith(_OWN_FILES) or not uri.startswith(("https://", "http://")):
        return Media(kind=kind, file_id=uri, media_type=media_type, name=name)
    return Media(kind=kind, url=uri, media_type=media_type, name=name)


def media_part(media: Media) -> dict[str, object]:
    """The part, or CannotSay for another provider's file."""
    if media.text is not None:
        data = base64.b64encode(media.text.encode()).decode()
        return {"inlineData": {"mimeType": media.media_type or "text/plain", "data": data}}
    if media.data is not None:
        return {"inlineData": {"mimeType": media.media_type or _USUAL[media.kind], "data": media.data}}
    if media.url is not None:
        media_type = media.media_type or _type_by_address(media.url, media.kind) or _USUAL[media.kind]
        return {"fileData": {"mimeType": media_type, "fileUri": media.url}}
    raise CannotSay("image_file" if media.kind == "image" else "document_file", "the file is another provider's")


def kind_of(media_type: str) -> MediaKind:
    return _KINDS.get(media_type.partition("/")[0].lower(), "document")


def _type_by_address(uri: str, kind: MediaKind | None = None) -> str | None:
    """By the address's ending. One that contradicts what is known of the kind tells nothing."""
    if uri.startswith(_FILMS):
        found: str | None = "video/mp4"
    else:
        found = _TYPE_OF.get(_path_of(uri).rpartition(".")[2].lower())
    return found if found is None or kind is None or kind_of(found) == kind else None


def _path_of(uri: str) -> str:
    try:
        return urlsplit(uri).path
    except ValueError:
        return ""


def _text_of(data: str) -> str | None:
    try:
        return base64.b64decode(standard_base64(data), validate=True).decode()
    except (binascii.Error, ValueError):
        return None


class Blob(msgspec.Struct, gc=False, rename="camel", forbid_unknown_fields=True):
    data: str
    mime_type: str
    display_name: str | None = None


class FileData(msgspec.Struct, gc=False, rename="camel", forbid_unknown_fields=True):
    file_uri: str
    mime_type: str | None = None
    display_name: str | None = None
