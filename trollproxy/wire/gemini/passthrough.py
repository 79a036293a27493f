"""Gemini's generateContent, streamGenerateContent and countTokens, as far as bytes of them pass through.

The request line names the model and says whether to stream; of the body only the output limits are read, and it goes
on as it came. A provider is always asked for server-sent events; who wants its stream as an array gets one made of
them.
"""

import re
from collections.abc import Mapping

import msgspec

from trollproxy.chat import Ask, FormatName
from trollproxy.errors import GatewayError, InvalidRequest, UpstreamBroken
from trollproxy.wire.body import check_model, decode_reply, decode_request, may_spell_model, replace_members
from trollproxy.wire.format import Entry, Format, Headers, LimitState, StreamMeter, Tongue, Whole
from trollproxy.wire.gemini.errors_out import error_object
from trollproxy.wire.gemini.foreign_signatures import without_foreign
from trollproxy.wire.gemini.meter import GenerateMeter, said_by, searches_of
from trollproxy.wire.gemini.shallow import ANSWER, COUNT_REQUEST, REQUEST, Request
from trollproxy.wire.gemini.texts import TEXTS
from trollproxy.wire.gemini.tongue import GeminiTongue
from trollproxy.wire.gemini.usage import read_usage
from trollproxy.wire.sse import EVENT_STREAM

_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]*")
_MODEL_MEMBER = re.compile(rb'"model"\s*:', re.IGNORECASE)
_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_MAX_CANDIDATES = 8  # the vendor's own bound
_ARRAY = "application/json; charset=utf-8"


_EMPTY = (b"", b"null", b"[]", b"{}")


class Gemini(Format):
    """The format's entry in FORMATS."""

    __slots__ = ("keep_alive", "name", "texts", "tongue")

    def __init__(self) -> None:
        self.name: FormatName = "gemini"
        self.tongue: Tongue = GeminiTongue()
        self.texts = TEXTS
        self.keep_alive = b"\n"  # a bare blank line: the vendor's Python client breaks on anything else

    def read_ask(self, body: bytes, entry: Entry) -> Ask:
        """Where the path names no model (/v1/generate), the body does."""
        if entry.operation == "count_tokens":
            return _read_count_ask(body, entry)
        request = decode_request(REQUEST, body)
        model = _model_of(entry, request.model)
        _require_contents(request.contents)
        limit, choices = _limits_of(request)
        return Ask(model=model, stream=entry.stream, max_output_tokens=limit, choices=choices)

    def prepare(self, body: bytes, ask: Ask, upstream_model: str) -> bytes:  # noqa: ARG002 - the path names the model
        """The bytes as they came, unless they name a model too (the provider must run what we priced) or hold what
        other vendors signed.

        Escapes can spell `model` so that it is not seen; the few bodies with one are looked at in full.
        """
        if _MODEL_MEMBER.search(body) is not None or may_spell_model(body):
            body = _without_model(body, upstream_model)
        return without_foreign(body, upstream_model)

    def upstream_path(self, path: str, entry: Entry, upstream_model: str) -> str:
        name = upstream_model.removeprefix("models/")
        if _MODEL.fullmatch(name) is None:
            raise InvalidRequest("The model's name cannot stand in a path.", param="model")
        if entry.operation == "count_tokens":
            return f"{path}/{name}:countTokens"
        return f"{path}/{name}:streamGenerateContent?alt=sse" if entry.stream else f"{path}/{name}:generateContent"

    def auth_headers(self, secret: str) -> Headers:
        return [("x-goog-api-key", secret)]

    def forward_headers(self, headers: Mapping[str, str]) -> Headers:
        """Not x-goog-api-client (it says only what the client is written in), nor what names a billing project."""
        return [("x-server-timeout", headers["x-server-timeout"])] if "x-server-timeout" in headers else []

    def meter(self, ask: Ask, entry: Entry) -> StreamMeter:  # noqa: ARG002 - the stream says all
        return GenerateMeter(is_array=entry.is_array)

    def stream_type(self, entry: Entry) -> str:
        return _ARRAY if entry.is_array else EVENT_STREAM

    def read_whole(self, body: bytes) -> Whole:
        answer = decode_reply(ANSWER, body)
        if answer is None or (answer.candidates is None and answer.prompt_feedback is None):
            raise UpstreamBroken("The provider's answer is not of its format.")
        counted = answer.usage_metadata
        usage = read_usage(counted, tool_requests=searches_of(answer)) if counted is not None else None
        text_bytes, said = said_by(answer)
        whole = Whole(usage, said)
        whole.text_bytes = text_bytes  # media count as what they are billed as
        return whole

    def write_error(self, error: GatewayError, request_id: str) -> tuple[int, bytes]:
        return error.status, msgspec.json.encode(error_object(error, request_id))

    def request_id_header(self, request_id: str) -> tuple[str, str]:
        return ("x-request-id", request_id)

    def limit_headers(self, state: LimitState) -> Headers:  # noqa: ARG002 - the dialect has none
        return []


def _model_of(entry: Entry, in_body: str | None) -> str:
    model = (entry.model if entry.model is not None else in_body or "").removeprefix("models/")
    if not model:
        raise InvalidRequest("`model` must name a model.", param="model")
    check_model(model)
    return model


def _require_contents(contents: msgspec.Raw) -> None:
    if len(contents) <= len(b"null") and bytes(contents) in _EMPTY:
        raise InvalidRequest("`contents` must hold at least one content.", param="contents")


def _limits_of(request: Request) -> tuple[int | None, int]:
    """The output limit and the number of candidates: the largest, where several spellings say several."""
    limit, count = None, 1
    for spelt in (request.generation_config, request.snake_config):
        if spelt is not None:
            limit = _larger(limit, _limit_of(spelt.max_output_tokens), _limit_of(spelt.snake_output_tokens))
            count = max(count, _count_of(spelt.candidate_count), _count_of(spelt.snake_count))
    return limit, count


def _larger(*limits: int | None) -> int | None:
    return max([limit for limit in limits if limit is not None], default=None)


def _limit_of(limit: int | None) -> int | None:
    if limit is not None and limit < 1:
        raise InvalidRequest("`maxOutputTokens` must be at least 1.", param="generationConfig.maxOutputTokens")
    return limit


def _count_of(count: int | None) -> int:
    if count is not None and not 1 <= count <= _MAX_CANDIDATES:
        text = f"`candidateCount` must be between 1 and {_MAX_CANDIDATES}."
        raise InvalidRequest(text, param="generationConfig.candidateCount")
    return count or 1


def _read_count_ask(body: bytes, entry: Entry) -> Ask:
    """The view of a countTokens request, which generates nothing."""
    request = decode_request(COUNT_REQUEST, body)
    inner = request.generate_content_request or request.snake_request
    _require_contents(inner.contents if inner is not None else request.contents)
    return Ask(model=_model_of(entry, inner.model if inner else None), max_output_tokens=0)


def _without_model(body: bytes, upstream_model: str) -> bytes:
    """The body without its own word on the model; the request inside a countTokens request must have one."""
    members = decode_request(_MEMBERS, body)
    changed = {name: value for name, value in members.items() if name.lower() != "model"}
    for name in ("generateContentRequest", "generate_content_request"):
        if name in changed and bytes(changed[name]) != b"null":
            inner = replace_members(bytes(changed[name]), {"model": f"models/{upstream_model.removeprefix('models/')}"})
            changed[name] = msgspec.Raw(inner)
    return msgspec.json.encode(changed) if changed != members else body
