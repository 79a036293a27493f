"""Signatures of other vendors in a request that passes as bytes.

A client that talked to another vendor's model before replays that model's signatures, in an envelope. This vendor
checks what it is shown and would refuse the request over them, so they go; all other parts keep their bytes. Calls
that other vendors' models made have the word that stands for no signature, as in a translated request.
"""

import re
from collections.abc import Iterator

import msgspec

from trollproxy.wire.body import decode_reply, replace_members
from trollproxy.wire.gemini.shallow import CONVERSATION, PARTS, TEXT, Members
from trollproxy.wire.gemini.signatures import ENVELOPE, NAME, UNSIGNED, read_signature
from trollproxy.wire.gemini.thinking import has_levels

_HINT = re.compile(re.escape(ENVELOPE.encode()))  # searches large bodies faster than `in` does
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


def without_foreign(body: bytes, model: str) -> bytes:
    """The body itself where there is nothing foreign in it, which a search for the envelope mostly tells."""
    request = decode_reply(CONVERSATION, body) if _HINT.search(body) is not None else None
    if request is None:
        return body
    kept = [content for run in _runs(request.contents) for content in _cleared(run, signs=has_levels(model))]
    return replace_members(body, {"contents": kept}) if kept != request.contents else body


def _runs(contents: list[Members]) -> Iterator[list[Members]]:
    """Neighbours of one role: clients replay an answer in the pieces in which it streamed in."""
    run: list[Members] = []
    for content in contents:
        if run and run[-1].get("role") != content.get("role"):
            yield run
            run = []
        run.append(content)
    yield run


def _cleared(run: list[Members], *, signs: bool) -> list[Members]:
    whole = [decode_reply(PARTS, bytes(content.get("parts", msgspec.Raw()))) for content in run]
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


def _is_foreign(part: Members) -> bool:
    found = (decode_reply(TEXT, bytes(part[name])) for name in _SPELLINGS if name in part)
    return any(state is not None and state.origin != NAME for state in map(read_signature, found))


def _without_seal(part: Members) -> Members:
    return {name: value for name, value in part.items() if name not in _SPELLINGS} if _is_foreign(part) else part


def _sign_first_call(parts: list[Members]) -> None:
    first = next((part for part in parts if any(name in part for name in _CALLS)), None)
    if first is not None and not any(name in first for name in _SPELLINGS):
        first["thoughtSignature"] = msgspec.Raw(msgspec.json.encode(UNSIGNED))


def _says_something(part: Members) -> bool:
    """A redacted thought is nothing without its seal."""
    return "thought" not in part or any(name in part for name in (*_WORDS, *_SPELLINGS))
