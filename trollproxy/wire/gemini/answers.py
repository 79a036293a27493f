"""The vendor's answer, whole or a chunk of a stream, as far as it is read. What is unknown is passed over."""

import msgspec

from trollproxy.chat import Finish
from trollproxy.wire.body import UNSAID, ChoiceIndex
from trollproxy.wire.gemini.grounding import CitationMetadata, GroundingMetadata
from trollproxy.wire.gemini.partial_args import PartialArg
from trollproxy.wire.gemini.scores import LogprobsResult
from trollproxy.wire.gemini.shallow import UsageMetadata


class FunctionCall(msgspec.Struct, gc=False, rename="camel"):
    name: str | None = None
    id: str | None = None
    args: msgspec.Raw = UNSAID
    partial_args: list[PartialArg] | None = None
    will_continue: bool | None = None


class Blob(msgspec.Struct, gc=False, rename="camel"):
    mime_type: str = ""
    data: str = ""


class FileData(msgspec.Struct, gc=False, rename="camel"):
    file_uri: str
    mime_type: str | None = None


class Part(msgspec.Struct, gc=False, rename="camel"):
    text: str | None = None
    thought: bool | None = None
    thought_signature: str | None = None
    function_call: FunctionCall | None = None
    inline_data: Blob | None = None
    file_data: FileData | None = None


class Content(msgspec.Struct, gc=False):
    parts: list[Part] | None = None


class Candidate(msgspec.Struct, gc=False, rename="camel"):
    content: Content | None = None
    finish_reason: str | None = None
    index: ChoiceIndex | None = None
    grounding_metadata: GroundingMetadata | None = None
    citation_metadata: CitationMetadata | None = None
    logprobs_result: LogprobsResult | None = None


class Feedback(msgspec.Struct, gc=False, rename="camel"):
    block_reason: str | None = None
    block_reason_message: str | None = None


class Answer(msgspec.Struct, gc=False, rename="camel"):
    candidates: list[Candidate] | None = None
    usage_metadata: UsageMetadata | None = None
    prompt_feedback: Feedback | None = None
    model_version: str | None = None
    response_id: str | None = None
    error: msgspec.Raw = UNSAID


ANSWER = msgspec.json.Decoder(Answer)
ANSWERS = msgspec.json.Decoder(list[Answer])

_FINISHES: dict[str, Finish] = {
    "MAX_TOKENS": "length",
    "CONTINUATION": "paused",
    "SAFETY": "refusal",
    "RECITATION": "refusal",
    "LANGUAGE": "refusal",
    "OTHER": "refusal",  # in practice a block of another kind; what was said until then stands
    "BLOCKLIST": "refusal",
    "PROHIBITED_CONTENT": "refusal",
    "SPII": "refusal",
    "IMAGE_SAFETY": "refusal",
    "IMAGE_PROHIBITED_CONTENT": "refusal",
    "IMAGE_RECITATION": "refusal",
    "ESCALATION": "refusal",
    "PUP_LIMITED_DISABLED": "refusal",
    "MODEL_ARMOR": "refusal",
    "MALFORMED_FUNCTION_CALL": "malformed",
    "MALFORMED_RESPONSE": "malformed",
    "UNEXPECTED_TOOL_CALL": "malformed",
    "TOO_MANY_TOOL_CALLS": "malformed",
    "MISSING_THOUGHT_SIGNATURE": "malformed",
    "NO_IMAGE": "malformed",
    "IMAGE_OTHER": "malformed",
}
_REASONS: dict[Finish, str] = {
    "stop": "STOP",
    "stop_sequence": "STOP",
    "tool_calls": "STOP",
    "length": "MAX_TOKENS",
    "context_full": "MAX_TOKENS",
    "refusal": "SAFETY",
    "paused": "CONTINUATION",
    "malformed": "MALFORMED_FUNCTION_CALL",
}


def read_finish(reason: str, *, has_calls: bool) -> Finish:
    """The dialect has no reason of its own for calls: they end with STOP."""
    return _FINISHES.get(reason.upper(), "tool_calls" if has_calls else "stop")


def write_finish(finish: Finish) -> str:
    return _REASONS[finish]
