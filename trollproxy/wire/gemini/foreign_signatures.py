"""Signatures of other vendors in a request that passes as bytes.

A client that talked to another vendor's model before replays that model's signatures, in an envelope. This vendor
checks what it is shown and would refuse the request over them, so they go; all other parts keep their bytes. Calls
that other vendors' models made have the word that stands for no signature, as in a translated request.
"""

from collections.abc import Iterator

import msgspec

from trollproxy.wire.body import decode_reply, replace_members
from trollproxy.wire.gemini.signatures import ENVELOPE, NAME, UNSIGNED, read_signature
from trollproxy.wire.gemini.thinking import has_levels

_HINT = ENVELOPE.encode()
_SPELLINGS = ("thoughtSignature", "thought_signature")
_CALLS = ("functionCall", "function_call")
_WORDS = (
    "text",
    *_CALLS,
    "inlineData",
    "inline_data",
    "fileData",
    "file_data",
    "functionResponse",
    "function_response",
)

_Members = dict[str, msgspec.Raw]


class _Request(msgspec.Struct):
    contents: list[_Members]


_REQUEST = msgspec.json.Decoder(_Request)
_PARTS = msgspec.json.Decoder(list[_Members])
_TEXT = msgspec.json.Decoder(str)


def without_foreign(body: bytes, model: str) -> bytes:
    """The body itself where there is nothing foreign in it, which a search for the envelope mostly tells."""
    request = decode_reply(_REQUEST, body) if _HINT in body else None
    if request is None:
        return body
    kept = [content for run in _runs(request.contents) for content in _cleared(run, signs=has_levels(model))]
    return replace_members(body, {"contents": kept}) if kept != request.contents else body


def _runs(contents: list[_Members]) -> Iterator[list[_Members]]:
    """Neighbours of one role: clients replay an answer in the pieces in which it streamed in."""
    run: list[_Members] = []
    for content in contents:
        if run and run[-1].get("role") != content.get("role"):
            yield run
            run = []
        run.append(content)
    yield run


def _cleared(run: list[_Members], *, signs: bool) -> list[_Members]:
    whole = [decode_reply(_PARTS, bytes(content.get("parts", msgspec.Raw()))) for content in run]
    parts = [part for found in whole for part in found or ()]
    if not any(map(_is_foreign, parts)):
        return run
    cleared = [None if found is None else list(map(_without_seal, found)) for found in whole]
    if signs:
        _sign_first_call([part for found in cleared for part in found or ()])
    spoken = [None if found is None else [part for part in found if _says_something(part)] for found in cleared]
    return [
        content if found is None else content | {"parts": msgspec.Raw(msgspec.json.encode(found))}
        for content, found in zip(run, spoken, strict=True)
        if found != []
    ]


def _is_foreign(part: _Members) -> bool:
    found = (decode_reply(_TEXT, bytes(part[name])) for name in _SPELLINGS if name in part)
    return any(state is not None and state.origin != NAME for state in map(read_signature, found))


def _without_seal(part: _Members) -> _Members:
    return {name: value for name, value in part.items() if name not in _SPELLINGS} if _is_foreign(part) else part


def _sign_first_call(parts: list[_Members]) -> None:
    first = next((part for part in parts if any(name in part for name in _CALLS)), None)
    if first is not None and not any(name in first for name in _SPELLINGS):
        first["thoughtSignature"] = msgspec.Raw(msgspec.json.encode(UNSIGNED))


def _says_something(part: _Members) -> bool:
    """A redacted thought is nothing without its seal."""
    return "thought" not in part or any(name in part for name in (*_WORDS, *_SPELLINGS))
