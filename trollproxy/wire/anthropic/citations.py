"""Where a statement comes from, in the dialect's five kinds of place and in no vendor's words."""

from collections.abc import Iterable

import msgspec

from trollproxy.chat import Citation
from trollproxy.wire.body import decode_reply


class _Place(msgspec.Struct, gc=False):
    """The members that the kinds have and that mean something elsewhere."""

    url: str | None = None
    source: str | None = None
    title: str | None = None
    document_title: str | None = None
    cited_text: str | None = None


_PLACE = msgspec.json.Decoder(_Place)


def read_citation(raw: msgspec.Raw) -> Citation | None:
    found = decode_reply(_PLACE, bytes(raw))
    if found is None:
        return None
    url = found.url if found.url is not None else _address(found.source)
    return Citation(url=url, title=found.title or found.document_title, cited_text=found.cited_text)


def read_citations(raws: Iterable[msgspec.Raw], *, start: int | None = None, end: int | None = None) -> list[Citation]:
    """A block's citations. They are for all that the block says, which is the answer's text from `start` to `end`."""
    found = (read_citation(raw) for raw in raws)
    return [msgspec.structs.replace(citation, start=start, end=end) for citation in found if citation is not None]


def write_citation(citation: Citation) -> dict[str, object]:
    """The kind that fits: a web page has an address; of a document no more is known than its title and words."""
    cited_text = citation.cited_text or ""
    if citation.url is not None:
        return {
            "type": "web_search_result_location",
            "url": citation.url,
            "title": citation.title,
            "cited_text": cited_text,
            "encrypted_index": "",
        }
    return {
        "type": "char_location",
        "cited_text": cited_text,
        "document_index": 0,
        "document_title": citation.title,
        "start_char_index": 0,
        "end_char_index": len(cited_text),
    }


def _address(source: str | None) -> str | None:
    return source if source is not None and source.startswith(("https://", "http://")) else None
