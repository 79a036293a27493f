"""JSON bodies: decoding into what we read, and changing a member without touching the rest.

Decoding is typed and lets unknown members be; errors name the place. Editing keeps every untouched member's bytes.
"""

import re
from typing import TypeVar

import msgspec

from trollproxy.errors import InvalidRequest

T = TypeVar("T")
_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_PLACE = re.compile(r" - at `\$\.?(?P<path>[^`]*)`$")
MAX_MODEL_NAME = 256

_MODEL = re.compile(rb'"model"', re.IGNORECASE)
_MISSING = re.compile(r"missing required field `(?P<path>[^`]*)`")


def decode_request(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
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


def check_model(model: str) -> None:
    """A name is stored with every charge, so it has a bound: several times what any vendor's have."""
    if len(model) > MAX_MODEL_NAME:
        raise InvalidRequest(f"`model` must not have more than {MAX_MODEL_NAME} characters.", param="model")


def decode_reply(decoder: msgspec.json.Decoder[T], data: bytes) -> T | None:
    """Decode what a provider sent; None where it is not of the expected shape."""
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def replace_members(body: bytes, members: dict[str, object]) -> bytes:
    """The object with these top-level members set; all others keep their bytes and order.

    Repeated names collapse. Other spellings of a replaced name go: there are parsers that take `Model` for `model`.
    """
    kept = decode_request(_MEMBERS, body)
    others = {name: value for name, value in kept.items() if name in members or name.lower() not in members}
    return msgspec.json.encode(others | members)


def names_model_twice(body: bytes) -> bool:
    r"""Whether the bytes might name `model` more than once at the top, where parsers disagree on which one counts.

    The provider must run what we priced, so such a body is written anew. `model` spelt with an escape (every letter of
    it is \u006x) cannot be counted by sight and is treated alike; nested members of that name only cost the rewrite.
    """
    return len(_MODEL.findall(body)) != 1 or b"\\u006" in body
