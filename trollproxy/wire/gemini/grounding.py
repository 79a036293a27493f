"""Where an answer's statements come from: `groundingMetadata` and `citationMetadata`.

The vendor counts places in bytes of UTF-8, the conversation in characters.
"""

from collections.abc import Iterable

import msgspec

from trollproxy.chat import Citation


class Source(msgspec.Struct, gc=False):
    uri: str | None = None
    title: str | None = None
    text: str | None = None


class Chunk(msgspec.Struct, gc=False, rename="camel"):
    web: Source | None = None
    retrieved_context: Source | None = None
    maps: Source | None = None


class Segment(msgspec.Struct, gc=False, rename="camel"):
    start_index: int | None = None
    end_index: int | None = None


class Support(msgspec.Struct, gc=False, rename="camel"):
    segment: Segment | None = None
    grounding_chunk_indices: list[int] | None = None


class GroundingMetadata(msgspec.Struct, gc=False, rename="camel"):
    grounding_chunks: list[Chunk] | None = None
    grounding_supports: list[Support] | None = None
    web_search_queries: list[str] | None = None


class Quoted(msgspec.Struct, gc=False, rename="camel"):
    uri: str | None = None
    title: str | None = None
    start_index: int | None = None
    end_index: int | None = None


class CitationMetadata(msgspec.Struct, gc=False):
    citations: list[Quoted] | None = None


def read_citations(grounding: GroundingMetadata | None, quoted: CitationMetadata | None, text: str) -> list[Citation]:
    said = text.encode()
    found = [
        Citation(url=quote.uri, title=quote.title, start=_chars(said, quote.start_index or 0), end=_chars(said, end))
        for quote in (quoted.citations if quoted else None) or ()
        if (end := quote.end_index) is not None
    ]
    if grounding is None:
        return found
    sources = [chunk.web or chunk.retrieved_context or chunk.maps for chunk in grounding.grounding_chunks or ()]
    placed: set[int] = set()
    for support in grounding.grounding_supports or ():
        for number in support.grounding_chunk_indices or ():
            source = sources[number] if 0 <= number < len(sources) else None
            if source is not None:
                placed.add(number)
                found.append(_citation(source, support.segment, said))
    unplaced = (source for number, source in enumerate(sources) if source is not None and number not in placed)
    return found + [_citation(source, None, said) for source in unplaced]


def _citation(source: Source, segment: Segment | None, said: bytes) -> Citation:
    place = segment if segment is not None and segment.end_index is not None else None
    return Citation(
        url=source.uri,
        title=source.title,
        cited_text=source.text,
        start=_chars(said, place.start_index or 0) if place else None,
        end=_chars(said, place.end_index or 0) if place else None,
    )


def _chars(said: bytes, offset: int) -> int:
    return len(said[: max(0, offset)].decode(errors="ignore"))


def write_citations(citations: Iterable[Citation], text: str) -> dict[str, object]:
    chunks: list[dict[str, object]] = []
    supports: list[dict[str, object]] = []
    for citation in citations:
        source = {"uri": citation.url, "title": citation.title, "text": citation.cited_text}
        told = {name: value for name, value in source.items() if value is not None}
        if citation.url is not None and citation.cited_text is None:
            chunks.append({"web": told})
        else:
            chunks.append({"retrievedContext": told})
        if citation.end is not None:
            start = citation.start or 0
            segment = {
                "startIndex": len(text[:start].encode()),
                "endIndex": len(text[: citation.end].encode()),
                "text": text[start : citation.end],
            }
            supports.append({"segment": segment, "groundingChunkIndices": [len(chunks) - 1]})
    return {"groundingChunks": chunks, "groundingSupports": supports}
