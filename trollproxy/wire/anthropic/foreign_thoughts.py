"""Thoughts of other vendors in a request that passes as bytes.

A client that talked to another vendor's model before replays that model's thoughts, in an envelope. This vendor checks
signatures and would refuse the request over one that is not its own, so such blocks go; all other bytes stay.
"""

import re

import msgspec

from trollproxy.wire.anthropic.shallow import BLOCK, BLOCKS, CONVERSATION
from trollproxy.wire.body import decode_reply, replace_members
from trollproxy.wire.envelope import unseal

_HINT = re.compile(b"trollproxy:")  # searches large bodies faster than `in` does


def without_foreign(body: bytes) -> bytes:
    """The body itself where there is nothing foreign in it, which a search for the envelope mostly tells."""
    request = decode_reply(CONVERSATION, body) if _HINT.search(body) is not None else None
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
    blocks = decode_reply(BLOCKS, bytes(content)) if _HINT.search(bytes(content)) is not None else None
    if blocks is None:
        return message
    own = [block for block in blocks if not _is_foreign(block)]
    return message if len(own) == len(blocks) else message | {"content": msgspec.Raw(msgspec.json.encode(own))}


def _is_foreign(raw: msgspec.Raw) -> bool:
    block = decode_reply(BLOCK, bytes(raw))
    if block is None or block.type not in {"thinking", "redacted_thinking"}:
        return False
    return unseal(block.signature or block.data or "", "anthropic").origin != "anthropic"
