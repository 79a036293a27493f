"""A request's `input`: items of all kinds, read into turns.

Everything that a model said in a row is one turn, however many items it is; so are the results that come back for it.
"""

from collections.abc import Callable, Mapping

import msgspec

from trollproxy.chat import (
    CacheLifetime,
    Citation,
    Media,
    Part,
    Refusal,
    State,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolResult,
    Turn,
    TurnRole,
)
from trollproxy.errors import InvalidRequest
from trollproxy.wire.body import NOT_TRANSLATABLE, decode_reply, decode_strictly
from trollproxy.wire.openai_responses.media import read_audio, read_file, read_image
from trollproxy.wire.openai_responses.sealed import Belonging, Sealed, digest_of, open_sealed
from trollproxy.wire.openai_responses.shapes import (
    AdditionalTools,
    CallOutput,
    ContentPart,
    CustomCall,
    FunctionCall,
    GeneratedImage,
    InputAudio,
    InputFile,
    InputImage,
    InputText,
    Message,
    OutputText,
    ReasoningItem,
    RefusalPart,
    SearchCall,
    SearchOutput,
)
from trollproxy.wire.openai_responses.tools_in import SEARCH, joined_name, read_tools

_ROLES: dict[str, TurnRole] = {"user": "user", "assistant": "assistant", "system": "system", "developer": "system"}
_LIFETIMES: dict[str, CacheLifetime] = {"30m": "30m", "12h": "12h"}


class _Kind(msgspec.Struct, gc=False):
    type: str | None = None
    role: str | None = None


class _Annotation(msgspec.Struct):
    type: str = ""
    url: str | None = None
    title: str | None = None
    filename: str | None = None
    start_index: int | None = None
    end_index: int | None = None
    index: int | None = None


_KIND = msgspec.json.Decoder(_Kind)
_ANNOTATION = msgspec.json.Decoder(_Annotation)
_MESSAGE = msgspec.json.Decoder(Message)
_REASONING = msgspec.json.Decoder(ReasoningItem)
_FUNCTION_CALL = msgspec.json.Decoder(FunctionCall)
_CUSTOM_CALL = msgspec.json.Decoder(CustomCall)
_OUTPUT = msgspec.json.Decoder(CallOutput)
_SEARCH_CALL = msgspec.json.Decoder(SearchCall)
_SEARCH_OUTPUT = msgspec.json.Decoder(SearchOutput)
_TOOLS = msgspec.json.Decoder(AdditionalTools)
_IMAGE = msgspec.json.Decoder(GeneratedImage)
_STRING = msgspec.json.Decoder(str)


class History:
    """What the items read so far amount to."""

    __slots__ = ("_lifetime", "_loose", "_said", "system", "tools")

    def __init__(self, lifetime: CacheLifetime) -> None:
        self.system: list[Text] = []
        self._said: list[tuple[TurnRole, list[Part]]] = []
        self.tools: list[Tool] = []
        self._loose: list[Sealed] = []  # signatures whose calls or texts are found at the end
        self._lifetime = lifetime  # of breakpoints that do not say

    def take(self, raw: msgspec.Raw, place: str) -> None:
        kind = decode_strictly(_KIND, raw, place=place)
        name = kind.type or ("message" if kind.role is not None else "item_reference")
        read = _READERS.get(name)
        if read is None:
            param = f"{place}.type"
            words = (
                f"`{param}` `{name}` cannot be carried to this model: it stands for something kept or run at OpenAI."
            )
            raise InvalidRequest(words, code=NOT_TRANSLATABLE, param=param)
        read(self, raw, place)

    def turns(self) -> tuple[Turn, ...]:
        """All that was said, every signature where it belongs."""
        signed = {(loose.what, loose.digest): loose.state for loose in self._loose}
        if not signed:
            return tuple([Turn(role, tuple(parts)) for role, parts in self._said])
        return tuple(
            Turn(role, tuple(_signed(part, signed) if role == "assistant" else part for part in parts))
            for role, parts in self._said
        )

    def add(self, role: TurnRole, parts: list[Part]) -> None:
        if self._said and self._said[-1][0] == role:
            self._said[-1][1].extend(parts)
        else:
            self._said.append((role, parts))

    def message(self, raw: msgspec.Raw, place: str) -> None:
        message = decode_strictly(_MESSAGE, raw, place=place)
        role = _ROLES.get(message.role)
        if role is None:
            raise InvalidRequest(f"`{place}.role` is none of {', '.join(_ROLES)}.", param=f"{place}.role")
        parts = self._parts(message.content, f"{place}.content")
        if role != "system":
            self.add(role, parts)
            return
        texts = [part for part in parts if isinstance(part, Text)]
        if len(texts) != len(parts):
            words = f"`{place}.content` cannot be carried to this model: instructions are made of text."
            raise InvalidRequest(words, code=NOT_TRANSLATABLE, param=f"{place}.content")
        if self._said:
            self.add("system", [*texts])
        else:
            self.system += texts

    def reasoning(self, raw: msgspec.Raw, place: str) -> None:
        item = decode_strictly(_REASONING, raw, place=place)
        thought = read_thought(item, bytes(raw))
        if isinstance(thought, Sealed):
            self._loose.append(thought)
        else:
            self.add("assistant", [thought])

    def function_call(self, raw: msgspec.Raw, place: str) -> None:
        call = decode_strictly(_FUNCTION_CALL, raw, place=place)
        name = joined_name(call.namespace, call.name)
        self.add("assistant", [ToolCall(call_id=call.call_id, name=name, arguments=call.arguments)])

    def custom_call(self, raw: msgspec.Raw, place: str) -> None:
        call = decode_strictly(_CUSTOM_CALL, raw, place=place)
        name = joined_name(call.namespace, call.name)
        self.add("assistant", [ToolCall(call_id=call.call_id, name=name, arguments=call.input, is_custom=True)])

    def function_output(self, raw: msgspec.Raw, place: str) -> None:
        self._result(raw, place, is_custom=False)

    def custom_output(self, raw: msgspec.Raw, place: str) -> None:
        self._result(raw, place, is_custom=True)

    def _result(self, raw: msgspec.Raw, place: str, *, is_custom: bool) -> None:
        output = decode_strictly(_OUTPUT, raw, place=place)
        parts = self._parts(output.output, f"{place}.output")
        said = tuple(part for part in parts if isinstance(part, Text | Media))
        if len(said) != len(parts):
            raise InvalidRequest(f"`{place}.output` must not hold a refusal.", param=f"{place}.output")
        cache = next((part.cache for part in reversed(said) if part.cache is not None), None)
        said = tuple(msgspec.structs.replace(part, cache=None) if part.cache is not None else part for part in said)
        self.add("user", [ToolResult(call_id=output.call_id, parts=said, is_custom=is_custom, cache=cache)])

    def search_call(self, raw: msgspec.Raw, place: str) -> None:
        call = decode_strictly(_SEARCH_CALL, raw, place=place)
        _require_client(call.execution, place)
        text = decode_reply(_STRING, bytes(call.arguments))
        arguments = text if text is not None else bytes(call.arguments).decode()
        self.add("assistant", [ToolCall(call_id=call.call_id, name=SEARCH, arguments=arguments)])

    def search_output(self, raw: msgspec.Raw, place: str) -> None:
        """What was found can be called from here on; elsewhere a tool is declared for the whole conversation."""
        output = decode_strictly(_SEARCH_OUTPUT, raw, place=place)
        _require_client(output.execution, place)
        found = list(read_tools(output.tools, f"{place}.tools"))
        self.tools += found
        names = ", ".join(tool.name for tool in found)
        words = f"Found, and ready to be called: {names}" if names else "Nothing was found."
        self.add("user", [ToolResult(call_id=output.call_id, parts=(Text(text=words),))])

    def additional_tools(self, raw: msgspec.Raw, place: str) -> None:
        self.tools += read_tools(decode_strictly(_TOOLS, raw, place=place).tools, f"{place}.tools")

    def image(self, raw: msgspec.Raw, place: str) -> None:
        item = decode_strictly(_IMAGE, raw, place=place)
        media_type = f"image/{item.output_format or 'png'}"
        self.add("assistant", [Media(kind="image", data=item.result, media_type=media_type)])

    def _parts(self, content: str | list[ContentPart], place: str) -> list[Part]:
        if isinstance(content, str):
            return [Text(text=content)] if content else []
        return [self._part(part, f"{place}[{number}]") for number, part in enumerate(content)]

    def _part(self, part: ContentPart, place: str) -> Part:
        cache = self._cache_of(part)
        match part:
            case InputText():
                return Text(text=part.text, cache=cache)
            case OutputText():
                return Text(text=part.text, cache=cache, citations=read_citations(part.annotations))
            case RefusalPart():
                return Refusal(text=part.refusal)
            case InputImage():
                return read_image(part, place, cache)
            case InputFile():
                return read_file(part, place, cache)
            case InputAudio():
                return read_audio(part)

    def _cache_of(self, part: ContentPart) -> CacheLifetime | None:
        mark = part.prompt_cache_breakpoint
        return _LIFETIMES.get(mark.ttl or "", self._lifetime) if mark is not None else None


_READERS: dict[str, Callable[[History, msgspec.Raw, str], None]] = {
    "message": History.message,
    "reasoning": History.reasoning,
    "function_call": History.function_call,
    "function_call_output": History.function_output,
    "custom_tool_call": History.custom_call,
    "custom_tool_call_output": History.custom_output,
    "tool_search_call": History.search_call,
    "tool_search_output": History.search_output,
    "additional_tools": History.additional_tools,
    "image_generation_call": History.image,
}


def read_thought(item: ReasoningItem, raw: bytes) -> Thinking | Sealed:
    """A thought, or what carries the signature of something else. The vendor's own is kept whole, to be replayed."""
    sealed = open_sealed(item.encrypted_content)
    if sealed is not None and sealed.what is not None:
        return sealed
    text = "\n\n".join(words.text for words in item.summary or item.content or ())
    if sealed is not None:
        return Thinking(text=text, state=sealed.state, is_redacted=sealed.is_redacted)
    if not item.encrypted_content and not item.content:
        return Thinking(text=text)
    whole = bytes(msgspec.json.format(raw, indent=-1)).decode()
    return Thinking(text=text, state=State("openai_responses", whole))


def read_citations(annotations: list[msgspec.Raw] | None) -> tuple[Citation, ...]:
    found = (decode_reply(_ANNOTATION, bytes(raw)) for raw in annotations or ())
    return tuple(filter(None, map(_citation, filter(None, found))))


def _citation(annotation: _Annotation) -> Citation | None:
    match annotation.type:
        case "url_citation" if annotation.url is not None:
            start, end = annotation.start_index, annotation.end_index
            return Citation(url=annotation.url, title=annotation.title, start=start, end=end)
        case "file_citation" if annotation.filename:
            return Citation(title=annotation.filename, start=annotation.index)
    return None


def _signed(part: Part, states: Mapping[Belonging, State]) -> Part:
    match part:
        case ToolCall(state=None):
            found = states.get(("call", digest_of(part.call_id)))
        case Text(state=None):
            found = states.get(("text", digest_of(part.text)))
        case _:
            return part
    return msgspec.structs.replace(part, state=found) if found is not None else part


def _require_client(execution: str | None, place: str) -> None:
    if execution not in {None, "client"}:
        param = f"{place}.execution"
        words = f"`{param}` cannot be carried to this model: a search that the provider ran is known to it only."
        raise InvalidRequest(words, code=NOT_TRANSLATABLE, param=param)
