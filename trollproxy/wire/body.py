"""JSON bodies: decoding into what we read, and changing a member without touching the rest.

Decoding is typed and lets unknown members be; errors name the place. Editing keeps every untouched member's bytes.
"""

import re
from typing import Annotated, Final, TypeVar

import msgspec

from trollproxy.errors import InvalidRequest

T = TypeVar("T")


_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_PLACE = re.compile(r" - at `\$\.?(?P<path>[^`]*)`$")
_UNKNOWN_MEMBER = re.compile(r"^Object contains unknown field `(?P<name>[^`]*)`")
_UNKNOWN_KIND = re.compile(r"^Invalid value '.*' - at ", re.DOTALL)  # of a `type`; wrong words elsewhere read otherwise
UNSAID: Final = msgspec.Raw()  # the default of members that are not read at once: who is absent is this very object
NULL: Final = msgspec.Raw(b"null")
MAX_MODEL_NAME: Final = 256
# Which of a request's answers a piece is of. No vendor makes more for one request, and clients keep them in a list.
ChoiceIndex = Annotated[int, msgspec.Meta(ge=0, lt=128)]
NOT_TRANSLATABLE = "not_translatable"
_UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

_MODEL = re.compile(rb'"model"', re.IGNORECASE)
_ESCAPED = re.compile(rb"\\u00[46]")
_MISSING = re.compile(r"missing required field `(?P<path>[^`]*)`")


def decode_request(decoder: msgspec.json.Decoder[T], body: bytes | msgspec.Raw) -> T:
    """Decode a client's body; InvalidRequest says what is wrong and, as `param`, where."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        text = str(error)
        place = _PLACE.search(text) or _MISSING.search(text)
        raise InvalidRequest(f"{text}.", param=place["path"] if place else None) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"The body is not valid JSON: {error}.", code="invalid_json") from error
    except RecursionError as error:
        raise InvalidRequest("The body is nested too deeply.", code="invalid_json") from error


def decode_strictly(decoder: msgspec.json.Decoder[T], body: bytes | msgspec.Raw, *, place: str = "") -> T:
    """Decode all of a conversation, where `decoder` forbids unknown members: what it does not know would be lost, so
    it is refused by its name. `place` says where in the request `body` stands.
    """
    try:
        return decoder.decode(body)
    except _UNDECODABLE:
        pass  # once more, for the words
    try:
        return decode_request(decoder, body)
    except InvalidRequest as error:
        if error.code != InvalidRequest.code:
            raise
        unknown = _UNKNOWN_MEMBER.search(error.message)
        path = ".".join(filter(None, (place, error.param, unknown["name"] if unknown else ""))).replace(".[", "[")
        if unknown or _UNKNOWN_KIND.match(error.message):
            words = f"`{path}` cannot be carried to this model: the gateway has no translation of it."
            raise InvalidRequest(words, code=NOT_TRANSLATABLE, param=path) from error
        raise InvalidRequest(error.message, param=path or None) from error


def check_model(model: str) -> None:
    """A name is stored with every charge, so it has a bound: several times what any vendor's have."""
    if len(model) > MAX_MODEL_NAME:
        raise InvalidRequest(f"`model` must not have more than {MAX_MODEL_NAME} characters.", param="model")


def decode_reply(decoder: msgspec.json.Decoder[T], data: bytes | msgspec.Raw) -> T | None:
    """Decode what a provider sent; None where it is not of the expected shape."""
    try:
        return decoder.decode(data)
    except _UNDECODABLE:
        return None


def count_of(number: int | None) -> int:
    """What a provider counted: never less than nothing."""
    return number if number is not None and number > 0 else 0


def is_said(raw: msgspec.Raw) -> bool:
    """Whether a member is there and not null."""
    return raw is not UNSAID and raw != NULL


def inside(raw: msgspec.Raw) -> bytes:
    """A JSON value without its quotes or braces."""
    return bytes(raw)[1:-1]


def replace_members(body: bytes, members: dict[str, object]) -> bytes:
    """The object with these top-level members set; all others keep their bytes and order.

    Repeated names collapse. Other spellings of a replaced name go: there are parsers that take `Model` for `model`.
    """
    kept = decode_request(_MEMBERS, body)
    others = {name: value for name, value in kept.items() if name in members or name.lower() not in members}
    return msgspec.json.encode(others | members)


def names_model_twice(body: bytes) -> bool:
    r"""Whether the bytes might name `model` more than once at the top, where parsers disagree on which one counts.

    The provider must run what we priced, so such a body is written anew. `model` spelt with an escape cannot be counted
    by sight and is treated alike; nested members of that name only cost the rewrite.
    """
    return may_spell_model(body) or len(_MODEL.findall(body)) != 1


def may_spell_model(body: bytes) -> bool:
    r"""Whether there are escapes that `model` could be spelt with: each letter of it is \u006x, or \u004x if capital,
    and some parsers take `Model` for it. Most bodies have no escape at all, which is seen much sooner.
    """
    return body.find(b"\\") >= 0 and _ESCAPED.search(body) is not None


def as_object(arguments: str) -> msgspec.Raw:
    """The arguments of a tool call for a dialect that wants an object there: the very bytes where they are one.

    Models write broken JSON now and then, and a history that holds such a call must not be lost over it.
    """
    if not arguments.strip():
        return msgspec.Raw(b"{}")
    data = arguments.encode()
    if decode_reply(_MEMBERS, data) is not None:
        return msgspec.Raw(data)
    return msgspec.Raw(msgspec.json.encode({"arguments": arguments}))
