"""What is read of what only passes: the little that must be known of it.

The token counts are read for translation as well.
"""

import msgspec

from trollproxy.wire.body import UNSAID


class Lifetimes(msgspec.Struct, frozen=True, gc=False):
    ttl_30m_tokens: int | None = None
    ttl_12h_tokens: int | None = None


class InputDetails(msgspec.Struct, frozen=True, gc=False):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    cache_write_tokens_details: Lifetimes | None = None


class OutputDetails(msgspec.Struct, frozen=True, gc=False):
    reasoning_tokens: int | None = None


class UsageObject(msgspec.Struct, frozen=True, gc=False):
    input_tokens: int | None = None
    output_tokens: int | None = None
    input_tokens_details: InputDetails | None = None
    output_tokens_details: OutputDetails | None = None


class Searches(msgspec.Struct, frozen=True, gc=False):
    num_requests: int | None = None


class ToolUsage(msgspec.Struct, frozen=True, gc=False):
    web_search: Searches | None = None


class Request(msgspec.Struct, gc=False):
    model: str
    input: str | list[msgspec.Raw] | None = None
    stream: bool | None = None
    max_output_tokens: int | None = None
    background: bool | None = None
    previous_response_id: str | None = None
    conversation: msgspec.Raw = UNSAID
    prompt: msgspec.Raw = UNSAID


class Response(msgspec.Struct, gc=False):
    id: str = ""
    usage: msgspec.Raw = UNSAID
    tool_usage: msgspec.Raw = UNSAID
    error: msgspec.Raw = UNSAID


class Event(msgspec.Struct, gc=False):
    type: str
    sequence_number: int = 0
    delta: msgspec.Raw = UNSAID
    text: msgspec.Raw = UNSAID
    refusal: msgspec.Raw = UNSAID
    arguments: msgspec.Raw = UNSAID
    input: msgspec.Raw = UNSAID
    response: Response | None = None
    error: msgspec.Raw = UNSAID


class Said(msgspec.Struct, gc=False):
    """An output item, a part of one, or a piece of a summary."""

    text: str | None = None
    refusal: str | None = None
    arguments: msgspec.Raw = UNSAID
    input: msgspec.Raw = UNSAID
    name: str | None = None
    content: list["Said"] | None = None
    summary: list["Said"] | None = None


class Reply(msgspec.Struct, gc=False):
    output: list[Said]


class CountedReply(Reply, gc=False):
    usage: UsageObject | None = None
    tool_usage: msgspec.Raw = UNSAID


class Carrier(msgspec.Struct):
    type: str | None = None
    encrypted_content: str | None = None


class Items(msgspec.Struct):
    input: list[msgspec.Raw] | str | None = None


REQUEST = msgspec.json.Decoder(Request)
EVENT = msgspec.json.Decoder(Event)
REPLY = msgspec.json.Decoder(CountedReply)
ODDLY_COUNTED = msgspec.json.Decoder(Reply)
ITEMS = msgspec.json.Decoder(Items)
CARRIED = msgspec.json.Decoder(Carrier)
USAGE = msgspec.json.Decoder(UsageObject | None)
TOOL_USAGE = msgspec.json.Decoder(ToolUsage | None)
