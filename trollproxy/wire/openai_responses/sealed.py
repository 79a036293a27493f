"""What a reasoning item's `encrypted_content` holds beyond the vendor's own: other vendors' states.

Clients replay reasoning items as they got them, so they carry any vendor's signature over the turns of a tool loop.
What is signed may be a thought, and then the item is that thought; or a tool call or a text, and then the item is
nothing but the carrier of the signature and says by a digest what it belongs to.
"""

import hashlib
import re
from typing import Literal

import msgspec

from trollproxy.chat import FormatName, State, Thinking
from trollproxy.wire.body import decode_reply
from trollproxy.wire.envelope import seal, unseal

MARK = "trollproxy:"  # of everything in the field that the vendor did not write
_CARRIER: FormatName = "openai_responses"
_KIND = re.compile(r"trollproxy:(?P<kind>redacted|(?P<what>call|text)-(?P<digest>[0-9a-f]{16})):")

Signed = Literal["call", "text"]
Belonging = tuple[Signed | None, str]  # what a signature is of: its kind, and the digest that names it


class Sealed(msgspec.Struct, gc=False, frozen=True, kw_only=True):
    """An opened seal. With `what`, it belongs to the call of that id or the text of that wording, by their digest."""

    state: State
    is_redacted: bool = False
    what: Signed | None = None
    digest: str = ""


def seal_thought(state: State, *, is_redacted: bool) -> str:
    return _marked("redacted", state) if is_redacted else _plain(state)


def seal_signature(state: State, what: Signed, name: str) -> str:
    """`name`: a call's id, or a text itself."""
    return _marked(f"{what}-{digest_of(name)}", state)


def digest_of(name: str) -> str:
    return hashlib.blake2b(name.encode(errors="surrogatepass"), digest_size=8).hexdigest()


def _marked(kind: str, state: State) -> str:
    return f"{MARK}{kind}:{_plain(state).removeprefix(MARK)}"


def _plain(state: State) -> str:
    return f"{MARK}{state.origin}:{state.data}" if state.origin == _CARRIER else seal(state, _CARRIER)


def open_sealed(text: str | None) -> Sealed | None:
    """None: the text is the vendor's own."""
    if not text or not text.startswith(MARK):
        return None
    marked = _KIND.match(text)
    state = unseal(MARK + text[marked.end() :] if marked else text, _CARRIER)
    if state.data.startswith(MARK) and state.origin == _CARRIER:
        return None
    if marked is None:
        return Sealed(state=state)
    what: Signed | None = None if marked["what"] is None else "call" if marked["what"] == "call" else "text"
    return Sealed(state=state, is_redacted=marked["kind"] == "redacted", what=what, digest=marked["digest"] or "")


class _Item(msgspec.Struct, gc=False):
    type: Literal["reasoning"]
    id: str | None = None


_ITEM = msgspec.json.Decoder(_Item)


def own_thought(thought: Thinking) -> msgspec.Raw | None:
    """The vendor's own reasoning item, to be replayed as it was. A client may have made one up, so it is checked."""
    state = thought.state
    if state is None or state.origin != _CARRIER:
        return None
    item = state.data.encode(errors="replace")
    return msgspec.Raw(item) if decode_reply(_ITEM, item) is not None else None


def id_of(item: msgspec.Raw) -> str | None:
    found = decode_reply(_ITEM, bytes(item))
    return found.id if found is not None else None
