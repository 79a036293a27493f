"""`thoughtSignature`: the vendor's own opaque bytes, or another vendor's in an envelope.

The field is bytes in base64, and the vendor's Python client decodes it and writes it anew in the other alphabet of
base64: both must be read. Our envelope is base64 too, so that clients take it.
"""

import base64
import binascii

from trollproxy.chat import FormatName, State
from trollproxy.wire.envelope import seal, unseal

NAME: FormatName = "gemini"
# The vendor's documentation gives this for calls that did not come from its model, which have no signature.
UNSIGNED = "skip_thought_signature_validator"

ENVELOPE = base64.b64encode(b"trollprox").decode()  # what every envelope begins with
_URL_SAFE = str.maketrans("-_", "+/")


def standard_base64(text: str) -> str:
    """In the alphabet that every other vendor takes, padded."""
    plain = text.translate(_URL_SAFE) if "-" in text or "_" in text else text
    return plain + "=" * (-len(plain) % 4)


def read_signature(text: str | None) -> State | None:
    if not text or text == UNSIGNED:
        return None
    if text.startswith(ENVELOPE):
        try:
            state = unseal(base64.b64decode(standard_base64(text)).decode(), NAME)
        except (binascii.Error, UnicodeDecodeError):
            return State(NAME, text)
        return state if state.origin != NAME else State(NAME, text)
    return State(NAME, text)


def write_signature(state: State) -> str:
    """For a client of this format, whoever made the state."""
    if state.origin == NAME:
        return state.data
    return base64.b64encode(seal(state, NAME).encode()).decode()
