"""What is read of what only passes: the little that must be known of it.

The token counts are read for translation as well.
"""

import msgspec

from trollproxy.wire.body import UNSAID


class CacheCreation(msgspec.Struct, gc=False):
    ephemeral_5m_input_tokens: int | None = None
    ephemeral_1h_input_tokens: int | None = None


class ServerTools(msgspec.Struct, gc=False):
    web_search_requests: int | None = None


class OutputDetails(msgspec.Struct, gc=False):
    thinking_tokens: int | None = None


class Iteration(msgspec.Struct, gc=False):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_creation: CacheCreation | None = None


class UsageObject(msgspec.Struct, gc=False):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_creation: CacheCreation | None = None
    server_tool_use: ServerTools | None = None
    output_tokens_details: OutputDetails | None = None
    iterations: list[Iteration] | None = None
    service_tier: str | None = None
    speed: str | None = None


class Request(msgspec.Struct, gc=False):
    model: str
    messages: list[msgspec.Raw]
    max_tokens: int
    stream: bool | None = None


class CountRequest(msgspec.Struct, gc=False):
    model: str
    messages: list[msgspec.Raw]


class Delta(msgspec.Struct, gc=False):
    """A piece of a block, or a whole one."""

    text: str | None = None
    thinking: str | None = None
    partial_json: str | None = None
    input: msgspec.Raw = UNSAID


class Message(msgspec.Struct, gc=False):
    usage: UsageObject | None = None


class Event(msgspec.Struct, gc=False):
    type: str
    message: Message | None = None
    usage: UsageObject | None = None
    delta: Delta | None = None
    error: msgspec.Raw = msgspec.Raw()


class Reply(msgspec.Struct, gc=False):
    content: list[Delta]
    usage: UsageObject | None = None


class Conversation(msgspec.Struct):
    messages: list[dict[str, msgspec.Raw]]


class Block(msgspec.Struct):
    type: str | None = None
    signature: str | None = None
    data: str | None = None


REQUEST = msgspec.json.Decoder(Request)
COUNT_REQUEST = msgspec.json.Decoder(CountRequest)
EVENT = msgspec.json.Decoder(Event)
REPLY = msgspec.json.Decoder(Reply)
CONVERSATION = msgspec.json.Decoder(Conversation)
BLOCKS = msgspec.json.Decoder(list[msgspec.Raw])
BLOCK = msgspec.json.Decoder(Block)
