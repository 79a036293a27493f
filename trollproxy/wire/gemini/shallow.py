"""What is read of what only passes: the little that must be known of it.

The token counts are read for translation as well.
"""

import msgspec

from trollproxy.wire.body import UNSAID

Members = dict[str, msgspec.Raw]


class UsageMetadata(msgspec.Struct, rename="camel", gc=False):
    prompt_token_count: int | None = None
    cached_content_token_count: int | None = None
    candidates_token_count: int | None = None
    thoughts_token_count: int | None = None
    tool_use_prompt_token_count: int | None = None
    total_token_count: int | None = None
    traffic_type: str | None = None


class Limits(msgspec.Struct, rename="camel", gc=False):
    """The vendor takes the names of its protocol buffers as well as those of its JSON."""

    max_output_tokens: int | None = None
    candidate_count: int | None = None
    snake_output_tokens: int | None = msgspec.field(name="max_output_tokens", default=None)
    snake_count: int | None = msgspec.field(name="candidate_count", default=None)


class Request(msgspec.Struct, rename="camel", gc=False):
    contents: msgspec.Raw = msgspec.Raw()
    generation_config: Limits | None = None
    snake_config: Limits | None = msgspec.field(name="generation_config", default=None)
    model: str | None = None


class CountRequest(msgspec.Struct, rename="camel"):
    contents: msgspec.Raw = msgspec.Raw()
    generate_content_request: Request | None = None
    snake_request: Request | None = msgspec.field(name="generate_content_request", default=None)


class Conversation(msgspec.Struct):
    contents: list[Members]


class Call(msgspec.Struct, rename="camel", gc=False):
    name: str | None = None
    args: msgspec.Raw = UNSAID
    partial_args: msgspec.Raw = UNSAID


class Part(msgspec.Struct, rename="camel", gc=False):
    text: str | None = None
    function_call: Call | None = None
    inline_data: msgspec.Raw = UNSAID
    executable_code: msgspec.Raw = UNSAID
    code_execution_result: msgspec.Raw = UNSAID


class Content(msgspec.Struct, gc=False):
    parts: list[Part] | None = None


class Grounding(msgspec.Struct, rename="camel", gc=False):
    web_search_queries: list[str] | None = None


class Candidate(msgspec.Struct, rename="camel", gc=False):
    content: Content | None = None
    finish_reason: str | None = None
    index: int | None = None
    grounding_metadata: Grounding | None = None


class Feedback(msgspec.Struct, rename="camel", gc=False):
    block_reason: str | None = None


class Answer(msgspec.Struct, rename="camel", gc=False):
    """A whole answer, or one chunk of a stream: they have one shape."""

    candidates: list[Candidate] | None = None
    usage_metadata: UsageMetadata | None = None
    prompt_feedback: Feedback | None = None
    error: msgspec.Raw = UNSAID


REQUEST = msgspec.json.Decoder(Request)
COUNT_REQUEST = msgspec.json.Decoder(CountRequest)
CONVERSATION = msgspec.json.Decoder(Conversation)
PARTS = msgspec.json.Decoder(list[Members])
TEXT = msgspec.json.Decoder(str)
ANSWER = msgspec.json.Decoder(Answer)
ANSWERS = msgspec.json.Decoder(list[Answer])
