"""What a request can ask for, item by item, and which items a given request uses.

Each wire format says of every feature whether it carries it, carries it with a loss that is named, or cannot. The
tables decide what is refused, and docs/compatibility.md is printed from them.
"""

from collections.abc import Iterator
from typing import Literal, get_args

from trollproxy.chat.parts import Media, Part, Text, Thinking, ToolCall, ToolResult
from trollproxy.chat.request import Reasoning, Request, Sampling, Tool, ToolChoice

Feature = Literal[
    "system",
    "system_inside",
    "image_data",
    "image_url",
    "image_file",
    "document_data",
    "document_url",
    "document_file",
    "document_text",
    "document_context",
    "document_citations",
    "audio_data",
    "audio_url",
    "audio_file",
    "video_data",
    "video_url",
    "video_file",
    "image_detail",
    "assistant_media",
    "refusal_inside",
    "citations_inside",
    "thinking_inside",
    "tools",
    "tools_custom",
    "tools_strict",
    "tool_choice_auto",
    "tool_choice_none",
    "tool_choice_any",
    "tool_choice_one",
    "tool_choice_some",
    "parallel_off",
    "parallel_on",
    "result_media",
    "result_error",
    "max_output_tokens",
    "stop",
    "temperature",
    "top_p",
    "top_k",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
    "logprobs",
    "choices",
    "output_json",
    "output_schema",
    "reasoning_off",
    "reasoning_on",
    "reasoning_adaptive",
    "reasoning_effort",
    "reasoning_budget",
    "reasoning_shown",
    "reasoning_hidden",
    "cache_marks",
    "cache_whole",
    "cache_key",
    "user",
    "tier",
    "verbosity",
    "metadata",
]
FEATURES: tuple[Feature, ...] = get_args(Feature)

_SAMPLING: tuple[Feature, ...] = (
    "temperature",
    "top_p",
    "top_k",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
    "logprobs",
)
_PLAIN: tuple[Feature, ...] = ("max_output_tokens", "cache_key", "user", "tier", "verbosity", "metadata")
_MEDIA: dict[tuple[str, str], Feature] = {
    ("image", "data"): "image_data",
    ("image", "url"): "image_url",
    ("image", "file_id"): "image_file",
    ("document", "data"): "document_data",
    ("document", "url"): "document_url",
    ("document", "file_id"): "document_file",
    ("document", "text"): "document_text",
    ("audio", "data"): "audio_data",
    ("audio", "url"): "audio_url",
    ("audio", "file_id"): "audio_file",
    ("video", "data"): "video_data",
    ("video", "url"): "video_url",
    ("video", "file_id"): "video_file",
}


class CannotSay(Exception):  # noqa: N818 - a statement of a format about a request; translation makes the error of it
    """A format has no words for something that a request asks for."""

    def __init__(self, feature: Feature, why: str) -> None:
        super().__init__(feature, why)
        self.feature = feature
        self.why = why


def features_of(request: Request) -> set[Feature]:
    """Everything that the request uses."""
    used: set[Feature] = {name for name in _PLAIN if getattr(request, name) is not None}
    used.update(_of_whole(request))
    if request.sampling != _NO_SAMPLING:
        used.update(_of_sampling(request.sampling))
    used.update(_of_reasoning(request.reasoning), _of_choice(request.tool_choice))
    for tool in request.tools:
        _add_tool(used, tool)
    for text in request.system:
        if text.cache is not None or text.citations:
            _add_part(used, text, "system")
    for turn in request.turns:
        if turn.role == "system":
            used.add("system_inside")
        for part in turn.parts:
            if not isinstance(part, Text) or part.cache is not None or part.citations:  # a plain text uses nothing
                _add_part(used, part, turn.role)
    return used


_NO_SAMPLING = Sampling()


def _of_whole(request: Request) -> Iterator[Feature]:
    if request.system:
        yield "system"
    if request.stop:
        yield "stop"
    if request.cache is not None:
        yield "cache_whole"
    if request.output is not None:
        yield "output_json" if request.output.schema is None else "output_schema"
    if request.parallel_tools is not None:
        yield "parallel_on" if request.parallel_tools else "parallel_off"


def _of_sampling(sampling: Sampling) -> Iterator[Feature]:
    yield from (name for name in _SAMPLING if getattr(sampling, name) is not None)
    if sampling.choices != 1:
        yield "choices"


def _of_reasoning(reasoning: Reasoning | None) -> Iterator[Feature]:
    if reasoning is None:
        return
    modes: dict[str, Feature] = {"off": "reasoning_off", "on": "reasoning_on", "adaptive": "reasoning_adaptive"}
    if reasoning.mode is not None:
        yield modes[reasoning.mode]
    if reasoning.effort is not None:
        yield "reasoning_effort"
    if reasoning.budget_tokens is not None:
        yield "reasoning_budget"
    if reasoning.shows_thoughts is not None:
        yield "reasoning_shown" if reasoning.shows_thoughts else "reasoning_hidden"


def _of_choice(choice: ToolChoice | None) -> Iterator[Feature]:
    if choice is None:
        return
    if len(choice.names) > 1 or (choice.names and choice.mode == "auto"):
        yield "tool_choice_some"
    elif choice.names:
        yield "tool_choice_one"
    else:
        modes: dict[str, Feature] = {"auto": "tool_choice_auto", "none": "tool_choice_none", "any": "tool_choice_any"}
        yield modes[choice.mode]


def _add_tool(used: set[Feature], tool: Tool) -> None:
    used.add("tools_custom" if tool.is_custom else "tools")
    if tool.strict:
        used.add("tools_strict")
    if tool.cache is not None:
        used.add("cache_marks")


def _add_part(used: set[Feature], part: Part, role: str) -> None:
    if isinstance(part, ToolCall):
        if part.is_custom:
            used.add("tools_custom")
    elif isinstance(part, ToolResult):
        _add_result(used, part)
    elif isinstance(part, Media):
        used.update(_of_media(part))
        if role == "assistant":
            used.add("assistant_media")
    elif isinstance(part, Text):
        if part.citations:
            used.add("citations_inside")
    else:
        used.add("thinking_inside" if isinstance(part, Thinking) else "refusal_inside")
        return
    if part.cache is not None:
        used.add("cache_marks")


def _of_media(media: Media) -> Iterator[Feature]:
    yield from (_MEDIA[media.kind, place] for place in _PLACES if getattr(media, place) is not None)
    if media.detail is not None:
        yield "image_detail"
    if media.context is not None:
        yield "document_context"
    if media.wants_citations:
        yield "document_citations"


_PLACES = ("data", "url", "file_id", "text")


def _add_result(used: set[Feature], result: ToolResult) -> None:
    if result.is_error:
        used.add("result_error")
    if result.is_custom:
        used.add("tools_custom")
    for part in result.parts:
        if isinstance(part, Media):
            used.add("result_media")
            used.update(_of_media(part))
