"""What the dialect can say comes back as it was said: requests, answers, streams and their accounting."""

from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tests.unit.wire.anthropic.asked import asked
from tests.unit.wire.strategies import Dialect, replies, requests, usages
from trollproxy.chat import (
    Counted,
    Feature,
    Reasoning,
    Reply,
    Request,
    State,
    Text,
    Usage,
    collect,
    events_of,
)
from trollproxy.wire.anthropic.replies import read_reply, write_reply
from trollproxy.wire.anthropic.requests_in import read_request
from trollproxy.wire.anthropic.requests_out import write_request
from trollproxy.wire.anthropic.shallow import UsageObject
from trollproxy.wire.anthropic.stream_reader import MessagesReader
from trollproxy.wire.anthropic.stream_writer import MessagesWriter
from trollproxy.wire.anthropic.usage import to_usage, usage_object
from trollproxy.wire.format import Entry, Target
from trollproxy.wire.sse import EventSplitter

QUIET = settings(deadline=None, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
SIGNED: st.SearchStrategy[State | None] = st.builds(
    State, st.just("anthropic"), st.text("abcXYZ09+/=", min_size=1, max_size=9)
)
SAID: set[Feature] = {
    "system",
    "image_data",
    "image_url",
    "document_data",
    "document_url",
    "document_text",
    "document_context",
    "document_citations",
    "tools",
    "tools_strict",
    "tool_choice_auto",
    "tool_choice_none",
    "tool_choice_any",
    "tool_choice_one",
    "parallel_off",
    "result_media",
    "result_error",
    "max_output_tokens",
    "stop",
    "output_schema",
    "cache_whole",
    "user",
    "tier",
}
BUCKETS = ("uncached", "write_5m", "write_1h", "read", "out_text", "out_reasoning", "tool_requests")
NEWER = Dialect(
    features=frozenset(SAID | {"system_inside", "thinking_inside"}),
    state_of={"thinking": SIGNED},
    has_redacted=True,
    lifetimes=("5m", "1h"),
    reasonings=st.builds(
        Reasoning,
        mode=st.just("adaptive"),
        effort=st.none() | st.sampled_from(["low", "medium", "high", "xhigh", "max"]),
        shows_thoughts=st.none() | st.booleans(),
    )
    | st.builds(Reasoning, mode=st.just("off"), effort=st.none() | st.sampled_from(["low", "high"])),
    named=frozenset({"document"}),
    tiers=("standard", "fast"),
    finishes=("stop", "length", "context_full", "paused"),
    has_stop_sequence=True,
    reply_texts=2,
    result_texts=2,
    buckets=BUCKETS,
    reply_tiers=(None, "priority", "fast"),
    reply_prefix="msg_",
)
WITH_SAMPLING = replace(
    NEWER, features=frozenset(SAID | {"temperature", "top_p", "top_k"}), reasonings=st.nothing(), named=frozenset()
)
WITH_BUDGETS = replace(
    NEWER,
    features=frozenset(SAID - {"tools"}),
    reasonings=st.builds(
        Reasoning, mode=st.just("on"), budget_tokens=st.integers(1024, 4999), shows_thoughts=st.booleans()
    ),
)
WITH_MARKS = replace(
    NEWER, features=frozenset({"tools", "cache_marks", "system"}), lifetimes=("1h",), reasonings=st.nothing()
)


def texts_of(request: Request) -> list[str]:
    """What the vendor refuses where it is blank."""
    texts = [text.text for text in request.system] + list(request.stop)
    for turn in request.turns:
        texts += [part.text for part in turn.parts if isinstance(part, Text)]
    return texts


def in_its_normal_form(request: Request) -> Request:
    limit = request.max_output_tokens if request.max_output_tokens is not None else 9_000
    return msgspec.structs.replace(request, model="ours", max_output_tokens=max(limit, 5_000))


def marks(request: Request) -> int:
    said = [*request.system, *request.tools, *(part for turn in request.turns for part in turn.parts)]
    return sum(getattr(each, "cache", None) is not None for each in said)


@pytest.mark.parametrize(
    ("dialect", "model"),
    [
        (NEWER, "claude-opus-4-8"),
        (WITH_SAMPLING, "claude-sonnet-4"),
        (WITH_BUDGETS, "claude-sonnet-4"),
        (WITH_MARKS, "claude-opus-4-8"),
    ],
)
def test_a_request_comes_back(dialect: Dialect, model: str) -> None:
    @QUIET
    @given(requests(dialect))
    def check(drawn: Request) -> None:
        assume(all(text.strip() for text in texts_of(drawn)))
        assume(marks(drawn) <= 4)
        request = msgspec.structs.replace(in_its_normal_form(drawn), model=model)
        back = read_request(write_request(request, Target(model=model)), Entry())
        assert comparable(back) == comparable(request)

    check()


def comparable(request: Request) -> Any:
    """Raw JSON by its bytes; a choice of no tools at all is not worth a member."""
    told: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(request))
    if not request.tools:
        told.pop("tool_choice", None)
        told.pop("parallel_tools", None)
    if request.tool_choice is not None and request.tool_choice.mode == "none":
        told.pop("parallel_tools", None)
    elif told.get("parallel_tools") is False:
        told.setdefault("tool_choice", {"mode": "auto"})
    return told


@QUIET
@given(replies(NEWER))
def test_an_answer_comes_back(reply: Reply) -> None:
    given_to = asked(model=reply.model)
    assert read_reply(write_reply(reply, given_to), given_to) == reply


@QUIET
@given(replies(NEWER))
def test_a_stream_comes_back(reply: Reply) -> None:
    given_to = asked(model=reply.model)
    writer, reader = MessagesWriter(given_to), MessagesReader(given_to)
    raw = b"".join(writer.write(event) for event in events_of(reply))
    back = collect(event for each in EventSplitter().feed(raw) for event in reader.read(each))
    usage = reply.usage if reply.usage is not None else back.usage
    assert back == msgspec.structs.replace(reply, tier=None, usage=usage)


@given(usages(NEWER))
def test_accounting_comes_back(usage: Usage) -> None:
    told = msgspec.convert(usage_object(usage), UsageObject, strict=False)
    assert to_usage(told) == usage


@given(usages(replace(NEWER, buckets=Usage.__struct_fields__)))
def test_no_token_is_lost_between_dialects(usage: Usage) -> None:
    back = to_usage(msgspec.convert(usage_object(usage), UsageObject, strict=False))
    assert (back.input_tokens, back.output_tokens) == (usage.input_tokens, usage.output_tokens)
    assert back.written_tokens == usage.written_tokens


@given(usages(NEWER), st.booleans())
def test_accounting_of_a_stream_comes_back(usage: Usage, comes_early: bool) -> None:
    given_to = asked()
    writer, reader = MessagesWriter(given_to), MessagesReader(given_to)
    counted = Counted(usage=usage, is_final=True)
    events = [*([counted] if comes_early else []), *events_of(Reply(reply_id="", model="m", choices=(), usage=usage))]
    raw = b"".join(writer.write(event) for event in events)
    back = collect(event for each in EventSplitter().feed(raw) for event in reader.read(each))
    assert back.usage == usage
