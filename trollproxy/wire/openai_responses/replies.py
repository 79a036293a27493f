"""A whole answer, read and written."""

from collections.abc import Mapping

import msgspec

from trollproxy.chat import (
    AnswerPart,
    Choice,
    Finish,
    Media,
    Refusal,
    Reply,
    State,
    Text,
    Thinking,
    TokenScore,
    ToolCall,
)
from trollproxy.errors import UpstreamBroken
from trollproxy.wire.body import decode_reply
from trollproxy.wire.errors_in import stream_error
from trollproxy.wire.format import Asked
from trollproxy.wire.openai_responses import answers_out as out
from trollproxy.wire.openai_responses.history import read_citations, read_thought
from trollproxy.wire.openai_responses.sealed import Belonging, Sealed, Signed, digest_of, own_thought, seal_signature
from trollproxy.wire.openai_responses.shapes import ReasoningItem, Words
from trollproxy.wire.openai_responses.tools_in import SEARCH, joined_name
from trollproxy.wire.openai_responses.usage import read_usage


class Likelihood(msgspec.Struct, gc=False):
    token: str = ""
    logprob: float = 0.0
    bytes: list[int] | None = None
    top_logprobs: list["Likelihood"] | None = None


class Content(msgspec.Struct, gc=False):
    type: str = ""
    text: str | None = None
    refusal: str | None = None
    annotations: list[msgspec.Raw] | None = None
    logprobs: list[Likelihood] | None = None


class Output(msgspec.Struct, gc=False):
    """An item of an answer, whichever it is."""

    type: str = ""
    id: str | None = None
    content: list[Content] | None = None
    summary: list[Words] | None = None
    encrypted_content: str | None = None
    call_id: str = ""
    name: str = ""
    namespace: str | None = None
    arguments: msgspec.Raw = msgspec.Raw()
    input: str = ""
    result: str | None = None
    output_format: str | None = None


class Incomplete(msgspec.Struct, gc=False):
    reason: str | None = None


class Response(msgspec.Struct, gc=False):
    id: str = ""
    model: str = ""
    status: str | None = None
    output: list[msgspec.Raw] | None = None
    usage: msgspec.Raw = msgspec.Raw()
    tool_usage: msgspec.Raw = msgspec.Raw()
    error: msgspec.Raw = msgspec.Raw()
    incomplete_details: Incomplete | None = None
    service_tier: str | None = None


RESPONSE = msgspec.json.Decoder(Response)
OUTPUT = msgspec.json.Decoder(Output)
_STRING = msgspec.json.Decoder(str)
_CUT: dict[str | None, Finish] = {"max_output_tokens": "length", "content_filter": "refusal"}
_NOTHING = (b"", b"null")


def read_reply(body: bytes) -> Reply:
    response = decode_reply(RESPONSE, body)
    if response is None or response.output is None:
        raise UpstreamBroken("The provider's answer is not of its format.")
    found: list[AnswerPart | Sealed] = [part for raw in response.output for part in _read_item(bytes(raw))]
    parts = _joined(found)
    finish = read_finish(response, parts)
    return Reply(
        reply_id=response.id,
        model=response.model,
        choices=(Choice(parts=parts, finish=finish),),
        usage=read_usage(response.usage, response.tool_usage),
        tier=response.service_tier if response.service_tier not in out.ORDINARY else None,
    )


def read_finish(response: Response, parts: tuple[AnswerPart, ...]) -> Finish:
    """Why it ended; an answer that has no end is the error that it holds."""
    match response.status:
        case "completed" | None:
            if any(isinstance(part, ToolCall) for part in parts):
                return "tool_calls"
            return "refusal" if any(isinstance(part, Refusal) for part in parts) else "stop"
        case "incomplete":
            reason = response.incomplete_details.reason if response.incomplete_details is not None else None
            return _CUT.get(reason, "paused")
        case "failed" if bytes(response.error) not in _NOTHING:
            raise stream_error(bytes(response.error))
    raise UpstreamBroken("The provider did not finish its answer.")


def _read_item(raw: bytes) -> list[AnswerPart | Sealed]:
    item = decode_reply(OUTPUT, raw)
    if item is None:
        raise UpstreamBroken("The provider's answer is not of its format.")
    match item.type:
        case "message":
            return [part for content in item.content or () if (part := read_content(content)) is not None]
        case "reasoning":
            return [thought_of(item, raw)]
        case "image_generation_call" if item.result:
            return [image_of(item)]
    call = call_of(item)
    # Items of tools that the provider runs tell nothing that the text does not, and none was offered to it.
    return [call] if call is not None else []


def call_of(item: Output) -> ToolCall | None:
    match item.type:
        case "function_call":
            return ToolCall(
                call_id=item.call_id, name=joined_name(item.namespace, item.name), arguments=arguments_of(item)
            )
        case "custom_tool_call":
            name = joined_name(item.namespace, item.name)
            return ToolCall(call_id=item.call_id, name=name, arguments=item.input, is_custom=True)
        case "tool_search_call" if item.call_id:
            return ToolCall(call_id=item.call_id, name=SEARCH, arguments=arguments_of(item))
    return None


def arguments_of(item: Output) -> str:
    """A string by the book, an object with a search and with some providers."""
    raw = bytes(item.arguments)
    text = decode_reply(_STRING, raw)
    if text is not None:
        return text
    return raw.decode(errors="replace") if raw not in _NOTHING else ""


def read_content(content: Content) -> Text | Refusal | None:
    if content.type == "refusal":
        return Refusal(text=content.refusal or "")
    if content.type != "output_text":
        return None
    return Text(
        text=content.text or "",
        citations=read_citations(content.annotations),
        scores=read_scores(content.logprobs),
    )


def read_scores(told: list[Likelihood] | None) -> tuple[TokenScore, ...]:
    return tuple(map(_read_score, told or ()))


def _read_score(told: Likelihood) -> TokenScore:
    spelt = tuple(told.bytes) if told.bytes is not None else None
    return TokenScore(token=told.token, logprob=told.logprob, bytes=spelt, top=read_scores(told.top_logprobs))


def thought_of(item: Output, raw: bytes) -> Thinking | Sealed:
    content = [Words(text=part.text) for part in item.content or () if part.text is not None]
    told = ReasoningItem(summary=item.summary, content=content, encrypted_content=item.encrypted_content)
    return read_thought(told, raw)


def image_of(item: Output) -> Media:
    return Media(kind="image", data=item.result, media_type=f"image/{item.output_format or 'png'}")


def _joined(found: list[AnswerPart | Sealed]) -> tuple[AnswerPart, ...]:
    """The parts, with the signatures that stand beside them put on."""
    signed = {(part.what, part.digest): part.state for part in found if isinstance(part, Sealed)}
    parts = (part for part in found if not isinstance(part, Sealed))
    return tuple(_with_state(part, signed) for part in parts)


def _with_state(part: AnswerPart, signed: Mapping[Belonging, State]) -> AnswerPart:
    match part:
        case ToolCall():
            return msgspec.structs.replace(part, state=signed.get(("call", digest_of(part.call_id))))
        case Text():
            return msgspec.structs.replace(part, state=signed.get(("text", digest_of(part.text))))
    return part


def write_reply(reply: Reply, asked: Asked) -> bytes:
    names = out.Names(asked, reply.reply_id)
    choice = reply.choices[0] if reply.choices else Choice(parts=(), finish="stop")
    items = _Items(names)
    for part in choice.parts:
        items.add(part)
    has_refusal = any(isinstance(part, Refusal) for part in choice.parts)
    members = out.write_shell(asked, names.reply_id) | out.write_end(
        choice.finish, reply.usage, has_refusal=has_refusal
    )
    return msgspec.json.encode(members | {"output": items.finish(), "service_tier": reply.tier or "default"})


class _Items:
    """Parts put into items; texts in a row are one message."""

    __slots__ = ("_content", "_items", "_names")

    def __init__(self, names: out.Names) -> None:
        self._names = names
        self._items: list[object] = []
        self._content: list[out.Item] = []

    def finish(self) -> list[object]:
        if self._content:
            self._items.append(out.write_message(self._id("msg"), self._content))
            self._content = []
        return self._items

    def _id(self, prefix: str) -> str:
        return self._names.item_id(prefix, len(self._items))

    def add(self, part: AnswerPart) -> None:
        match part:
            case Text():
                self._content.append(out.write_text(part))
                self._carry(part.state, "text", part.text)
            case Refusal():
                self._content.append(out.write_refusal(part))
            case Thinking():
                self.finish().append(own_thought(part) or out.write_thought(self._id("rs"), part))
            case ToolCall():
                self.finish().append(out.write_call(self._id(out.prefix_of(part, self._names)), part, self._names))
                self._carry(part.state, "call", part.call_id)
            case Media() if out.is_image(part):
                self.finish().append(out.write_image(self._id("ig"), part))
            case Media():
                self._content.append(out.write_text(out.described(part)))

    def _carry(self, state: State | None, what: Signed, name: str) -> None:
        if state is not None:
            self.finish().append(out.write_carrier(self._id("rs"), seal_signature(state, what, name)))
