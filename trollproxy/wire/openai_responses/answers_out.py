"""What an answer is made of, in the dialect's items: the parts that its whole form and its streams share."""

import msgspec

from trollproxy.chat import Citation, Finish, Media, Refusal, Text, Thinking, TokenScore, ToolCall, Usage
from trollproxy.wire.body import as_object
from trollproxy.wire.format import Asked
from trollproxy.wire.openai_responses.requests_out import write_citation
from trollproxy.wire.openai_responses.sealed import seal_thought
from trollproxy.wire.openai_responses.tools_in import is_search, parted_name
from trollproxy.wire.openai_responses.usage import write_tool_usage, write_usage

Item = dict[str, object]

ORDINARY = ("default", "auto")  # tiers that need no word

_PREFIX = "resp_"
_INCOMPLETE: dict[Finish, str] = {
    "length": "max_output_tokens",
    "context_full": "max_output_tokens",
    "refusal": "content_filter",
    "paused": "max_messages",
}
_UNUSABLE = {"code": "server_error", "message": "The model's output was unusable."}


class Names:
    """Ids of one answer, and how the client calls its tools."""

    __slots__ = ("_groups", "_root", "_searches", "reply_id")

    def __init__(self, asked: Asked, reply_id: str) -> None:
        self._root = asked.request_id.removeprefix("req_")
        self.reply_id = _reply_id(reply_id, self._root)
        self._groups = {tool.name: tool for tool in asked.request.tools if tool.namespace is not None}
        self._searches = {tool.name for tool in asked.request.tools if is_search(tool)}

    def item_id(self, prefix: str, number: int) -> str:
        return f"{prefix}_{self._root}_{number}"

    def is_search(self, name: str) -> bool:
        return name in self._searches

    def called(self, name: str) -> Item:
        tool = self._groups.get(name)
        return {"name": name} if tool is None else {"name": parted_name(tool), "namespace": tool.namespace}


def _reply_id(reply_id: str, root: str) -> str:
    return reply_id if reply_id.startswith(_PREFIX) else _PREFIX + (reply_id or root)


def write_shell(asked: Asked, reply_id: str) -> Item:
    """The answer but for what is said and how it ends. Of the request it repeats what clients look at."""
    request = asked.request
    reasoning = request.reasoning
    return {
        "id": reply_id,
        "object": "response",
        "created_at": asked.now_s,
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": request.max_output_tokens,
        "metadata": one_line(request.metadata) if request.metadata is not None else {},
        "model": asked.model,
        "output": [],
        "parallel_tool_calls": request.parallel_tools is not False,
        "previous_response_id": None,
        "reasoning": {"effort": reasoning.effort if reasoning is not None else None, "summary": None},
        "service_tier": "default",
        "store": False,
        "temperature": request.sampling.temperature,
        "tool_choice": "auto",
        "tools": [],
        "top_p": request.sampling.top_p,
        "truncation": "disabled",
        "usage": None,
        "user": None,
    }


def write_end(finish: Finish, usage: Usage | None, *, has_refusal: bool) -> Item:
    """How it ended. A refusal in the model's own words is a complete answer; without words it was cut off."""
    members: Item = {"status": "completed"}
    if finish == "malformed":
        members = {"status": "failed", "error": _UNUSABLE}
    elif finish in _INCOMPLETE and not (finish == "refusal" and has_refusal):
        members = {"status": "incomplete", "incomplete_details": {"reason": _INCOMPLETE[finish]}}
    if usage is not None:
        members["usage"] = write_usage(usage)
        if usage.tool_requests:
            members["tool_usage"] = write_tool_usage(usage)
    return members


def write_text(part: Text) -> Item:
    annotations = [write_annotation(citation, len(part.text)) for citation in part.citations]
    scores = [write_score(score) for score in part.scores]
    return {"type": "output_text", "text": part.text, "annotations": annotations, "logprobs": scores}


def write_refusal(part: Refusal) -> Item:
    return {"type": "refusal", "refusal": part.text}


def write_annotation(citation: Citation, place: int) -> Item:
    """A document of the client's own has no id here; its title stands where a file's name would."""
    written = write_citation(citation)
    if written is not None:
        return written
    index = citation.start if citation.start is not None else place
    return {"type": "file_citation", "file_id": "", "filename": citation.title or "", "index": index}


def write_score(score: TokenScore) -> Item:
    return {**_likelihood(score), "top_logprobs": [_likelihood(other) for other in score.top]}


def _likelihood(score: TokenScore) -> Item:
    spelt = score.bytes if score.bytes is not None else tuple(score.token.encode(errors="replace"))
    return {"token": score.token, "bytes": spelt, "logprob": score.logprob}


def write_message(item_id: str, content: list[Item]) -> Item:
    return {"id": item_id, "type": "message", "role": "assistant", "status": "completed", "content": content}


def write_thought(item_id: str, thought: Thinking) -> Item:
    """A thought that is not the vendor's own; the signature of another vendor travels in the field for its own."""
    summary = [{"type": "summary_text", "text": thought.text}] if thought.text else []
    item: Item = {"id": item_id, "type": "reasoning", "summary": summary}
    if thought.state is not None:
        item["encrypted_content"] = seal_thought(thought.state, is_redacted=thought.is_redacted)
    return item


def write_carrier(item_id: str, sealed: str) -> Item:
    return {"id": item_id, "type": "reasoning", "summary": [], "encrypted_content": sealed}


def write_call(item_id: str, call: ToolCall, names: Names) -> Item:
    """The call as it is in the end. Clients parse the arguments of a function as JSON."""
    if call.is_custom:
        own = {"type": "custom_tool_call", "input": call.arguments, **names.called(call.name)}
    elif names.is_search(call.name):
        arguments = one_line(as_object(call.arguments))
        own = {"type": "tool_search_call", "execution": "client", "arguments": arguments}
    else:
        own = {"type": "function_call", "arguments": call.arguments or "{}", **names.called(call.name)}
    return {"id": item_id, "call_id": call.call_id, "status": "completed", **own}


def one_line(raw: msgspec.Raw) -> msgspec.Raw:
    """As an event in a stream needs it."""
    return msgspec.Raw(msgspec.json.format(bytes(raw), indent=-1))


def write_image(item_id: str, media: Media) -> Item:
    kind = (media.media_type or "image/png").removeprefix("image/")
    return {
        "id": item_id,
        "type": "image_generation_call",
        "status": "completed",
        "result": media.data,
        "output_format": kind,
    }


def is_image(media: Media) -> bool:
    return media.kind == "image" and media.data is not None


def described(media: Media) -> Text:
    """Other media have no item of their own; their address or data goes along in words."""
    address = media.url or media.file_id or f"data:{media.media_type or ''};base64,{media.data}"
    return Text(text=media.text if media.text is not None else f"[{media.name or media.kind}]({address})")


def prefix_of(call: ToolCall, names: Names) -> str:
    if call.is_custom:
        return "ctc"
    return "tsc" if names.is_search(call.name) else "fc"
