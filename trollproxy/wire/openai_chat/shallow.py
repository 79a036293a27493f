"""What is read of what only passes: the little that must be known of it.

The token counts are read for translation as well.
"""

import msgspec

from trollproxy.wire.body import UNSAID
from trollproxy.wire.openai_chat.answers import Said


class PromptDetails(msgspec.Struct, frozen=True, gc=False):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None


class CompletionDetails(msgspec.Struct, frozen=True, gc=False):
    reasoning_tokens: int | None = None


class UsageObject(msgspec.Struct, gc=False):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    prompt_tokens_details: PromptDetails | None = None
    completion_tokens_details: CompletionDetails | None = None


class StreamOptions(msgspec.Struct, gc=False):
    include_usage: bool | None = None


class Request(msgspec.Struct, gc=False):
    model: str
    messages: list[msgspec.Raw]
    stream: bool | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    stream_options: StreamOptions | None = None
    n: int | None = None


class Call(msgspec.Struct, gc=False):
    function: Said | None = None
    custom: Said | None = None


class Delta(msgspec.Struct, gc=False):
    """What is counted of `answers.Delta`, no more: an odd member elsewhere must not end a stream that only passes."""

    content: str | list[msgspec.Raw] | None = None  # a list of parts: rare, and counted as it stands
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None  # the same, as others call it; who sends both says it twice
    tool_calls: list[Call] | None = None
    function_call: Said | None = None


class ChunkChoice(msgspec.Struct, gc=False):
    delta: Delta | None = None
    finish_reason: str | None = None


class Chunk(msgspec.Struct, gc=False):
    choices: list[ChunkChoice] | None = None
    usage: msgspec.Raw = UNSAID
    error: msgspec.Raw = UNSAID


class Choice(msgspec.Struct, gc=False):
    message: Delta | None = None


class Reply(msgspec.Struct, gc=False):
    choices: list[Choice]


class CountedReply(Reply, gc=False):
    usage: UsageObject | None = None


class AnyStreamOptions(msgspec.Struct):
    stream_options: dict[str, msgspec.Raw] | None = None


REQUEST = msgspec.json.Decoder(Request)
CHUNK = msgspec.json.Decoder(Chunk)
REPLY = msgspec.json.Decoder(CountedReply)
ODDLY_COUNTED = msgspec.json.Decoder(Reply)
ANY_STREAM_OPTIONS = msgspec.json.Decoder(AnyStreamOptions)
USAGE = msgspec.json.Decoder(UsageObject | None)
