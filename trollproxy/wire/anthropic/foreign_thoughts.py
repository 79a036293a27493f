"""Thoughts of other vendors in a request that passes as bytes.

A client that talked to another vendor's model before replays that model's thoughts, in an envelope. This vendor checks
signatures and would refuse the request over one that is not its own, so such blocks go; all other bytes stay.
"""

import msgspec

from trollproxy.wire.body import decode_reply, replace_members
from trollproxy.wire.envelope import unseal

_HINT = b"trollproxy:"


class _Request(msgspec.Struct):
    messages: list[dict[str, msgspec.Raw]]


class _Block(msgspec.Struct):
    type: str | None = None
    signature: str | None = None
    data: str | None = None


_REQUEST = msgspec.json.Decoder(_Request)
_BLOCKS = msgspec.json.Decoder(list[msgspec.Raw])
_BLOCK = msgspec.json.Decoder(_Block)


def without_foreign(body: bytes) -> bytes:
    """The body itself where there is nothing foreign in it, which a search for the envelope mostly tells."""
    request = decode_reply(_REQUEST, body) if _HINT in body else None
    if request is None:
        return body
    cleared = [_cleared(message) for message in request.messages]
    if cleared == request.messages:
        return body
    return replace_members(
        body, {"messages": [message for message in cleared if bytes(message.get("content", b"")) != b"[]"]}
    )


def _cleared(message: dict[str, msgspec.Raw]) -> dict[str, msgspec.Raw]:
    content = message.get("content", msgspec.Raw())
    blocks = decode_reply(_BLOCKS, bytes(content)) if _HINT in bytes(content) else None
    if blocks is None:
        return message
    own = [block for block in blocks if not _is_foreign(block)]
    return message if len(own) == len(blocks) else message | {"content": msgspec.Raw(msgspec.json.encode(own))}


def _is_foreign(raw: msgspec.Raw) -> bool:
    block = decode_reply(_BLOCK, bytes(raw))
    if block is None or block.type not in {"thinking", "redacted_thinking"}:
        return False
    return unseal(block.signature or block.data or "", "anthropic").origin != "anthropic"
