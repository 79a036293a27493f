"""Two spellings of one body: like all JSON of protocol buffers, `max_output_tokens` is taken for `maxOutputTokens`.

What the client's own program put in (arguments, results, schemas) keeps its names.
"""

import msgspec

from trollproxy.errors import InvalidRequest
from trollproxy.wire.body import decode_reply

_MAX_DEPTH = 12  # deeper than any member that is the vendor's own
_OWN_WORDS = frozenset(
    {
        "args",
        "labels",
        "parameters",
        "parametersJsonSchema",
        "partMetadata",
        "response",
        "responseJsonSchema",
        "responseSchema",
    }
)
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_LIST = msgspec.json.Decoder(list[msgspec.Raw])


def camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word[:1].upper() + word[1:] for word in rest) if first and rest else name


def in_camel_case(body: bytes, depth: int = 0) -> bytes:
    """The body with the vendor's own members in the spelling of its JSON."""
    if depth > _MAX_DEPTH:
        return body
    if body.lstrip()[:1] == b"[":
        items = decode_reply(_LIST, body) or []
        return msgspec.json.encode([msgspec.Raw(in_camel_case(bytes(item), depth + 1)) for item in items])
    members = decode_reply(_OBJECT, body) if body.lstrip()[:1] == b"{" else None
    if members is None:
        return body
    spelt: dict[str, msgspec.Raw] = {}
    for name, value in members.items():
        known = camel(name)
        if known in spelt:
            raise InvalidRequest(f"`{known}` stands there twice, in two spellings.", param=known)
        spelt[known] = value if known in _OWN_WORDS else msgspec.Raw(in_camel_case(bytes(value), depth + 1))
    return msgspec.json.encode(spelt)
