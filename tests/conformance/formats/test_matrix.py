"""Every pair of formats: what a client can ask crosses or is refused by name; what is counted stays the same."""

import json
from itertools import product
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts.compatibility import page
from tests.conformance.formats.test_golden import CASES, HERE, asked_for, case_of, entry_of, read
from trollproxy.chat import Choice, FormatName, Reply, Text, ToolCall, Usage, collect, events_of, features_of
from trollproxy.errors import InvalidRequest
from trollproxy.wire import FORMATS
from trollproxy.wire.format import Target
from trollproxy.wire.sse import EventSplitter
from trollproxy.wire.thoughts import Memory
from trollproxy.wire.translation import Told, Translation

ROOT = Path(__file__).parents[3]
PAIRS = [(client, upstream) for client, upstream in product(FORMATS, FORMATS) if client != upstream]
# What every dialect can tell apart: kept, read from the cache, written to it, and what the model made.
USAGE = Usage(uncached=101, read=23, out_text=47)
TOKENS = st.integers(0, 10_000_000)
ANSWER = Reply(
    reply_id="id_1",
    model="m",
    choices=(
        Choice(
            parts=(Text(text="Let me look."), ToolCall(call_id="call_1", name="look", arguments='{"at":"here"}')),
            finish="tool_calls",
        ),
    ),
    usage=USAGE,
)


class Nothing:
    """A tenant without a past."""

    def recall(self, call_id: str) -> Memory | None:
        return None

    def keep(self, call_id: str, memory: Memory) -> None: ...


def requests_of(client: FormatName) -> list[Path]:
    return [path for path in CASES if path.parent.name == client and case_of(path)["kind"] == "request"]


def cross(client: FormatName, upstream: FormatName, path: Path) -> bytes | InvalidRequest:
    """The request of a case as its provider gets it, or why not."""
    entry, body = entry_of(case_of(path)), body_of(path)
    told = Told(request_id="req_" + "0" * 24, now_s=1, model="m", entry=entry)
    passage = Translation(FORMATS[client], FORMATS[upstream], told=told, recollection=Nothing())
    try:
        return passage.write_request(body, Target(model="some-model"))
    except InvalidRequest as error:
        return error


def body_of(path: Path) -> bytes:
    return json.dumps(case_of(path)["body"], ensure_ascii=False).encode()


@pytest.mark.parametrize(("client", "upstream"), PAIRS)
def test_a_request_crosses_or_is_refused_by_the_clients_word(client: FormatName, upstream: FormatName) -> None:
    crossed = 0
    for path in requests_of(client):
        used = features_of(FORMATS[client].tongue.read_request(body_of(path), entry_of(case_of(path))))
        written = cross(client, upstream, path)
        if isinstance(written, InvalidRequest):
            assert written.code == "not_translatable", path.name
            assert written.param, path.name
            continue
        assert used <= FORMATS[upstream].tongue.carries.keys(), f"{path.name} went through with a silent loss"
        assert json.loads(written), path.name
        crossed += 1
    assert crossed


@pytest.mark.parametrize(("client", "upstream"), PAIRS)
@pytest.mark.parametrize("is_stream", [False, True])
def test_an_answer_and_its_usage_cross_whole(client: FormatName, upstream: FormatName, *, is_stream: bool) -> None:
    """The provider's bytes are read, written for the client, and read again as the client would."""
    case = {"kind": "stream" if is_stream else "reply"}
    asked = asked_for(case)
    theirs, ours = FORMATS[upstream].tongue, FORMATS[client].tongue
    if is_stream:
        told = b"".join(map(theirs.stream_writer(asked).write, events_of(ANSWER)))
        reader, writer = theirs.stream_reader(asked), ours.stream_writer(asked)
        events = [said for event in EventSplitter().feed(told) for said in reader.read(event)] + reader.finish()
        again = ours.stream_reader(asked)
        seen = [
            said for event in EventSplitter().feed(b"".join(map(writer.write, events))) for said in again.read(event)
        ]
        reply = collect(seen + again.finish())
    else:
        crossed = ours.write_reply(theirs.read_reply(theirs.write_reply(ANSWER, asked), asked), asked)
        reply = ours.read_reply(crossed, asked)
    assert reply.usage == USAGE
    (choice,) = reply.choices
    assert choice.finish == "tool_calls"
    text, call = choice.parts
    assert isinstance(text, Text)
    assert isinstance(call, ToolCall)
    assert (text.text, call.name, json.loads(call.arguments)) == ("Let me look.", "look", {"at": "here"})


@pytest.mark.parametrize(("client", "upstream"), PAIRS)
@settings(max_examples=25)
@given(usage=st.builds(Usage, uncached=TOKENS, read=TOKENS, out_text=TOKENS, out_reasoning=TOKENS))
def test_every_bucket_is_kept(client: FormatName, upstream: FormatName, usage: Usage) -> None:
    asked = asked_for({"kind": "reply"})
    theirs, ours = FORMATS[upstream].tongue, FORMATS[client].tongue
    told = theirs.write_reply(msgspec.structs.replace(ANSWER, usage=usage), asked)
    assert ours.read_reply(ours.write_reply(theirs.read_reply(told, asked), asked), asked).usage == usage


@pytest.mark.parametrize("upstream", FORMATS)
def test_no_format_says_more_than_there_is(upstream: FormatName) -> None:
    tongue = FORMATS[upstream].tongue
    assert all(loss == loss.strip() and not loss.endswith(".") for loss in tongue.carries.values())
    assert tongue.drops
    assert set(tongue.params)


def test_the_page_says_what_the_tables_say() -> None:
    assert (ROOT / "docs" / "compatibility.md").read_text() == page(), "python -m scripts.compatibility > docs/…"


def test_every_format_has_its_cases() -> None:
    for name in FORMATS:
        kinds = {case_of(path)["kind"] for path in HERE.glob(f"{name}/*.json") if ".body" not in path.suffixes}
        assert kinds == {"request", "reply", "stream"}, name


def test_a_case_is_read_by_its_own_format() -> None:
    assert all(read(FORMATS[name].tongue, case_of(requests_of(name)[0])) for name in FORMATS if requests_of(name))
