"""Answers both ways, whole and as streams, with the pitfalls of each."""

import base64
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.wire.gemini.lines import TONGUE, answers_of, asked, chunk, event, read_stream, write_stream
from tests.unit.wire.strategies import chunked
from trollproxy.chat import (
    AnswerPart,
    Choice,
    Citation,
    Counted,
    Ended,
    Finish,
    Finished,
    Media,
    PartCited,
    PartEnded,
    PartGrew,
    PartScored,
    PartSigned,
    PartStarted,
    Refusal,
    Reply,
    Started,
    State,
    Text,
    Thinking,
    TokenScore,
    ToolCall,
    Usage,
    collect,
)
from trollproxy.errors import GatewayError, Overloaded, UpstreamBroken, UpstreamRateLimited
from trollproxy.wire.sse import EventSplitter

CALL_ID = "call_0123456789abcdef01234567_"


def parts_of(*events: bytes) -> Any:
    (choice,) = collect(read_stream(*events)).choices
    return choice.parts


def read_reply(answer: dict[str, Any]) -> Reply:
    return TONGUE.read_reply(msgspec.json.encode(answer), asked())


def write_reply(*parts: AnswerPart, finish: Finish = "stop", **members: Any) -> Any:
    reply = Reply(reply_id="r", model="theirs", choices=(Choice(parts=parts, finish=finish),), **members)
    return msgspec.json.decode(TONGUE.write_reply(reply, asked()))


class TestStreamRead:
    def test_text_grows(self):
        usage = {"promptTokenCount": 2, "candidatesTokenCount": 1}
        events = read_stream(
            chunk({"text": "Hel"}, responseId="id", modelVersion="g"),
            chunk({"text": "lo"}, finishReason="STOP", usageMetadata=usage),
        )
        assert events == [
            Started(reply_id="id", model="g"),
            PartStarted(index=0, part=Text(text="")),
            PartGrew(index=0, text="Hel"),
            PartGrew(index=0, text="lo"),
            PartEnded(index=0),
            Finished(finish="stop"),
            Counted(usage=Usage(uncached=2, out_text=1), is_final=True),
            Ended(),
        ]

    def test_thoughts_then_calls_then_the_end(self):
        parts = parts_of(
            chunk({"text": "hm", "thought": True}),
            chunk({"functionCall": {"name": "f", "args": {"a": 1}}, "thoughtSignature": "c2ln"}),
            chunk({"functionCall": {"name": "g", "id": "given"}}, finishReason="STOP"),
        )
        assert parts == (
            Thinking(text="hm"),
            ToolCall(call_id=f"{CALL_ID}0", name="f", arguments='{"a":1}', state=State("gemini", "c2ln")),
            ToolCall(call_id="given", name="g"),
        )

    def test_stop_with_calls_is_tool_calls(self):
        finished = read_stream(chunk({"functionCall": {"name": "f"}}, finishReason="STOP"))[-2]
        assert finished == Finished(finish="tool_calls")

    @pytest.mark.parametrize(
        ("reason", "finish"),
        [
            ("STOP", "stop"),
            ("MAX_TOKENS", "length"),
            ("SAFETY", "refusal"),
            ("RECITATION", "refusal"),
            ("PROHIBITED_CONTENT", "refusal"),
            ("SPII", "refusal"),
            ("BLOCKLIST", "refusal"),
            ("CONTINUATION", "paused"),
            ("MALFORMED_FUNCTION_CALL", "malformed"),
            ("UNEXPECTED_TOOL_CALL", "malformed"),
            ("MISSING_THOUGHT_SIGNATURE", "malformed"),
            ("SOMETHING_NEW", "stop"),
        ],
    )
    def test_reasons(self, reason, finish):
        assert read_stream(chunk({"text": "a"}, finishReason=reason))[-2] == Finished(finish=finish)

    def test_a_refused_prompt(self):
        feedback = {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 4}}
        assert read_stream(event(feedback)) == [
            Started(),
            Finished(finish="refusal"),
            Counted(usage=Usage(uncached=4), is_final=True),
            Ended(),
        ]

    def test_a_refused_prompts_words(self):
        feedback = {"promptFeedback": {"blockReason": "OTHER", "blockReasonMessage": "No."}}
        assert parts_of(event(feedback)) == (Refusal(text="No."),)

    def test_a_signature_behind_the_text_is_the_texts(self):
        parts = parts_of(
            chunk({"text": "Hel"}),
            chunk({"text": "lo"}),
            chunk({"text": "", "thoughtSignature": "c2ln"}, finishReason="STOP"),
        )
        assert parts == (Text(text="Hello", state=State("gemini", "c2ln")),)

    def test_what_is_signed_is_not_continued(self):
        parts = parts_of(chunk({"text": "a", "thoughtSignature": "cw=="}), chunk({"text": "b"}, finishReason="STOP"))
        assert parts == (Text(text="a", state=State("gemini", "cw==")), Text(text="b"))

    def test_a_signature_alone_is_not_lost(self):
        parts = parts_of(
            chunk({"functionCall": {"name": "f"}}), chunk({"text": "", "thoughtSignature": "cw=="}, finishReason="STOP")
        )
        assert parts[1] == Text(text="", state=State("gemini", "cw=="))

    def test_a_call_that_comes_twice_is_one(self):
        call = {"functionCall": {"name": "f", "id": "x", "args": {}}}
        parts = parts_of(chunk(call | {"thoughtSignature": "cw=="}), chunk(call, finishReason="STOP"))
        assert len(parts) == 1
        assert parts[0].state == State("gemini", "cw==")

    def test_media(self):
        image = {"inlineData": {"mimeType": "image/png", "data": "AAAA"}}
        assert parts_of(chunk({"text": "see"}), chunk(image, finishReason="STOP")) == (
            Text(text="see"),
            Media(kind="image", data="AAAA", media_type="image/png"),
        )

    def test_usage_that_is_missing_later_stays(self):
        events = read_stream(
            chunk({"text": "a"}, usageMetadata={"promptTokenCount": 9}),
            chunk(finishReason="STOP", usageMetadata={"trafficType": "ON_DEMAND"}),
        )
        assert [said for said in events if isinstance(said, Counted)] == [
            Counted(usage=Usage(uncached=9), is_final=False)
        ]

    def test_usage_behind_the_reason_is_final(self):
        events = read_stream(
            chunk({"text": "a"}, finishReason="STOP"), event({"usageMetadata": {"promptTokenCount": 1}})
        )
        assert events[-2:] == [Counted(usage=Usage(uncached=1), is_final=True), Ended()]

    def test_several_candidates(self):
        events = read_stream(
            chunk({"text": "a"}, index=1),
            chunk({"text": "b"}),
            chunk(finishReason="STOP"),
            chunk(index=1, finishReason="STOP"),
        )
        assert [choice.parts for choice in collect(events).choices] == [(Text(text="b"),), (Text(text="a"),)]
        assert isinstance(events[-1], Ended)

    def test_what_is_cut_off_has_no_end(self):
        assert read_stream(chunk({"text": "a"}))[-1] == PartGrew(index=0, text="a")
        assert read_stream() == []

    def test_an_error_inside_is_raised(self):
        with pytest.raises(UpstreamRateLimited):
            read_stream(event({"error": {"code": 429, "message": "m", "status": "RESOURCE_EXHAUSTED"}}))
        with pytest.raises(GatewayError):
            read_stream(b'{"error": {"code": 500}}\n\n')

    @pytest.mark.parametrize(
        "noise", [b": c\n\n", b"\n\n", b"data: [DONE]\n\n", b"data: {}\n\n", b'data: {"new":1}\n\n']
    )
    def test_noise_says_nothing(self, noise):
        reader = TONGUE.stream_reader(asked())
        assert [said for said in reader.read(noise) if not isinstance(said, Started)] == []

    @pytest.mark.parametrize("bad", [b"data: x\n\n", b"data: []\n\n", b'data: {"candidates":1}\n\n'])
    def test_what_is_not_of_the_format_is_broken(self, bad):
        with pytest.raises(UpstreamBroken):
            read_stream(bad)

    def test_citations_are_placed_in_characters(self):
        grounding = {
            "groundingChunks": [
                {"web": {"uri": "https://a.example", "title": "A"}},
                {"web": {"uri": "https://b.example"}},
            ],
            "groundingSupports": [{"segment": {"startIndex": 3, "endIndex": 6}, "groundingChunkIndices": [0, 7]}],
        }
        quoted = {"citations": [{"uri": "https://c.example", "startIndex": 0, "endIndex": 2}]}
        (text,) = parts_of(
            chunk({"text": "é "}),
            chunk({"text": "née"}, finishReason="STOP", groundingMetadata=grounding, citationMetadata=quoted),
        )
        assert text.citations == (
            Citation(url="https://c.example", start=0, end=1),
            Citation(url="https://a.example", title="A", start=2, end=4),
            Citation(url="https://b.example"),
        )

    def test_scores(self):
        scored = {
            "chosenCandidates": [{"token": "a", "logProbability": -0.5}],
            "topCandidates": [{"candidates": [{"token": "b", "logProbability": -1}]}],
        }
        (text,) = parts_of(chunk({"text": "a"}, logprobsResult=scored, finishReason="STOP"))
        assert text.scores == (TokenScore(token="a", logprob=-0.5, top=(TokenScore(token="b", logprob=-1.0),)),)


class TestPartialArguments:
    def test_they_are_put_together(self):
        def piece(*args: Any, more: bool = True, **call: Any) -> Any:
            return {"functionCall": {"partialArgs": list(args), "willContinue": more} | call}

        parts = parts_of(
            chunk({"functionCall": {"name": "f", "willContinue": True}, "thoughtSignature": "cw=="}),
            chunk(piece({"jsonPath": "$.city", "stringValue": "Bos", "willContinue": True})),
            chunk(
                piece(
                    {"jsonPath": "$.city", "stringValue": "ton"},
                    {"jsonPath": "$.n", "numberValue": 12345678901234567890},
                )
            ),
            chunk(
                piece(
                    {"jsonPath": "$.stops[1]['zip code']", "boolValue": True},
                    {"jsonPath": '$["x"]', "nullValue": "NULL_VALUE"},
                )
            ),
            chunk({"functionCall": {}}),
            chunk({"functionCall": {"name": "g", "args": {}}}, finishReason="STOP"),
        )
        expected = '{"city":"Boston","n":12345678901234567890,"stops":[null,{"zip code":true}],"x":null}'
        assert parts[0] == ToolCall(call_id=f"{CALL_ID}0", name="f", arguments=expected, state=State("gemini", "cw=="))
        assert parts[1].name == "g"

    def test_a_call_that_is_never_ended_ends_with_the_answer(self):
        (call,) = parts_of(chunk({"functionCall": {"name": "f", "willContinue": True}}), chunk(finishReason="STOP"))
        assert call.arguments == "{}"

    @pytest.mark.parametrize("path", ["", "x", "$", "$.a[99999]", "$..a", "$[0]", "$.a.b"])
    def test_places_that_do_not_exist_are_broken(self, path):
        call = {
            "name": "f",
            "partialArgs": [{"jsonPath": "$.a", "boolValue": True}, {"jsonPath": path, "boolValue": True}],
        }
        with pytest.raises(UpstreamBroken):
            read_stream(chunk({"functionCall": call}))


class TestWholeRead:
    def test_an_answer(self):
        reply = read_reply(
            {
                "candidates": [{"content": {"parts": [{"text": "a"}, {"text": "b"}]}, "finishReason": "STOP"}],
                "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 2, "trafficType": "ON_DEMAND_FLEX"},
                "responseId": "id",
                "modelVersion": "g",
            }
        )
        assert reply == Reply(
            reply_id="id",
            model="g",
            choices=(Choice(parts=(Text(text="a"), Text(text="b")), finish="stop"),),
            usage=Usage(uncached=3, out_text=2),
            tier="flex",
        )

    def test_a_missing_reason_is_the_end(self):
        assert read_reply({"candidates": [{"content": {"parts": [{"text": "a"}]}}]}).choices[0].finish == "stop"

    def test_a_refused_prompt(self):
        assert read_reply({"promptFeedback": {"blockReason": "SAFETY"}}).choices == (
            Choice(parts=(), finish="refusal"),
        )

    @pytest.mark.parametrize("index", [-1, 1_000_000])
    def test_a_candidate_beyond_all_that_can_be_asked_for_is_broken(self, index):
        with pytest.raises(UpstreamBroken):
            read_stream(chunk({"text": "a"}, index=index))

    @pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"candidates":[]}', b'{"candidates":null}', b"\xff"])
    def test_what_is_no_reply_is_broken(self, body):
        with pytest.raises(UpstreamBroken):
            TONGUE.read_reply(body, asked())


class TestWholeWritten:
    def test_every_kind_of_part(self):
        answer = write_reply(
            Thinking(text="hm", state=State("anthropic", "sig")),
            Thinking(state=State("anthropic", "blob"), is_redacted=True),
            Text(text="a"),
            Refusal(text="no"),
            ToolCall(call_id="c", name="f", arguments='{"b":1}', state=State("gemini", "own")),
            usage=Usage(uncached=1, read=2, write_5m=3, out_text=4, out_reasoning=5),
            tier="priority",
            finish="tool_calls",
        )
        (candidate,) = answer["candidates"]
        seal = base64.b64encode(b"trollproxy:anthropic:sig").decode()
        assert candidate["content"]["parts"] == [
            {"text": "hm", "thought": True, "thoughtSignature": seal},
            {"thought": True, "thoughtSignature": base64.b64encode(b"trollproxy:anthropic:blob").decode()},
            {"text": "a"},
            {"text": "no"},
            {"functionCall": {"id": "c", "name": "f", "args": {"b": 1}}, "thoughtSignature": "own"},
        ]
        assert candidate["finishReason"] == "STOP"
        assert answer["usageMetadata"] == {
            "promptTokenCount": 6,
            "cachedContentTokenCount": 2,
            "candidatesTokenCount": 4,
            "thoughtsTokenCount": 5,
            "totalTokenCount": 15,
            "trafficType": "ON_DEMAND_PRIORITY",
        }
        assert (answer["modelVersion"], answer["responseId"]) == ("some-model", "r")

    def test_nothing_said_is_an_empty_text(self):
        (candidate,) = write_reply(finish="refusal")["candidates"]
        assert candidate["content"]["parts"] == [{"text": ""}]
        assert candidate["finishReason"] == "SAFETY"

    def test_citations_are_placed_in_bytes(self):
        citations = (
            Citation(url="https://a.example", title="A", start=2, end=5),
            Citation(title="Doc", cited_text="words"),
        )
        (candidate,) = write_reply(Text(text="é née", citations=citations))["candidates"]
        grounding = candidate["groundingMetadata"]
        assert grounding["groundingChunks"] == [
            {"web": {"uri": "https://a.example", "title": "A"}},
            {"retrievedContext": {"title": "Doc", "text": "words"}},
        ]
        assert grounding["groundingSupports"] == [
            {"segment": {"startIndex": 3, "endIndex": 7, "text": "née"}, "groundingChunkIndices": [0]}
        ]


class TestStreamWritten:
    def test_lines_are_exactly_what_the_clients_take(self):
        data = write_stream([
            Started(reply_id="id", model="theirs"),
            PartStarted(index=0, part=Text(text="")),
            PartGrew(index=0, text="a\nb"),
            PartEnded(index=0),
            Finished(finish="stop"),
            Counted(usage=Usage(uncached=1, out_text=2), is_final=True),
            Ended(),
        ])  # fmt: skip
        for line in data.split(b"\n\n")[:-1]:
            assert line.startswith(b'data: {"')
            assert b"\n" not in line
        assert data.endswith(b"}\n\n")
        first, last = answers_of(data)
        assert first == {
            "candidates": [{"content": {"parts": [{"text": "a\nb"}], "role": "model"}, "index": 0}],
            "modelVersion": "some-model",
            "responseId": "id",
        }
        assert last["candidates"][0] == {
            "content": {"parts": [{"text": ""}], "role": "model"},
            "index": 0,
            "finishReason": "STOP",
        }
        assert last["usageMetadata"]["totalTokenCount"] == 3

    def test_nothing_final_is_written_before_the_end(self):
        writer = TONGUE.stream_writer(asked())
        writer.write(Started())
        assert writer.write(Finished(finish="length")) == b""
        assert writer.write(Counted(usage=Usage(), is_final=True)) == b""
        assert b'"MAX_TOKENS"' in writer.write(Ended())

    def test_parallel_calls_are_whole_and_in_the_order_of_their_start(self):
        first, second = ToolCall(call_id="a", name="f"), ToolCall(call_id="b", name="g")
        writer = TONGUE.stream_writer(asked())
        written = [
            writer.write(step)
            for step in (
                PartStarted(index=0, part=first),
                PartStarted(index=1, part=second),
                PartGrew(index=1, text='{ "x":\n 2}'),
                PartEnded(index=1),
                PartGrew(index=0, text='{"y":'),
                PartGrew(index=0, text="1}"),
                PartSigned(index=0, state=State("gemini", "own")),
            )
        ]
        assert not any(written)
        chunks = answers_of(writer.write(PartEnded(index=0)))
        parts = [answer["candidates"][0]["content"]["parts"][0] for answer in chunks]
        assert parts == [
            {"functionCall": {"id": "a", "name": "f", "args": {"y": 1}}, "thoughtSignature": "own"},
            {"functionCall": {"id": "b", "name": "g", "args": {"x": 2}}},
        ]

    def test_a_text_that_overlaps_a_thought_waits(self):
        writer = TONGUE.stream_writer(asked())
        assert writer.write(PartStarted(index=0, part=Thinking())) == b""
        assert writer.write(PartStarted(index=1, part=Text(text="a"))) == b""
        assert b'"thought":true' in writer.write(PartGrew(index=0, text="hm"))
        assert b'"text":"a"' in writer.write(PartEnded(index=0))

    def test_choices_do_not_wait_for_each_other(self):
        writer = TONGUE.stream_writer(asked())
        writer.write(PartStarted(index=0, part=Text(text="")))
        (answer,) = answers_of(writer.write(PartStarted(index=1, part=Text(text="b"), choice=1)))
        assert answer["candidates"][0]["index"] == 1

    def test_signatures_citations_and_scores(self):
        score = TokenScore(token="a", logprob=-0.5)
        data = write_stream([
            PartStarted(index=0, part=Text(text="")),
            PartGrew(index=0, text="a"),
            PartScored(index=0, scores=(score,)),
            PartCited(index=0, citation=Citation(url="https://a.example", start=0, end=1)),
            PartSigned(index=0, state=State("gemini", "own")),
            PartEnded(index=0),
            Finished(finish="stop"),
            Ended(),
        ])  # fmt: skip
        (choice,) = collect(read_stream(*EventSplitter().feed(data))).choices
        assert choice.parts == (
            Text(
                text="a",
                scores=(score,),
                citations=(Citation(url="https://a.example", start=0, end=1),),
                state=State("gemini", "own"),
            ),
        )

    def test_an_array(self):
        data = write_stream([
            Started(), PartStarted(index=0, part=Text(text="a")), PartEnded(index=0), Finished(finish="stop"), Ended(),
        ], is_array=True)  # fmt: skip
        assert len(msgspec.json.decode(data)) == 2

    @pytest.mark.parametrize("is_array", [False, True])
    def test_failing(self, is_array):
        writer = TONGUE.stream_writer(asked(is_array=is_array))
        data = writer.write(PartStarted(index=0, part=Text(text="a")))
        data += writer.fail(Overloaded("Full.", retry_after_s=3))
        answers = msgspec.json.decode(data) if is_array else answers_of(data)
        assert next(iter(answers[-1])) == "error"
        assert answers[-1]["error"]["details"][1]["requestId"] == "req_0123456789abcdef01234567"


WORDS = st.sampled_from(["candidates", "content", "parts", "text", "functionCall", "name", "index", "usageMetadata"])
SHAPES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=12,
)


@given(st.binary(max_size=60) | SHAPES.map(msgspec.json.encode))
def test_any_bytes_are_read_or_broken(body):
    for read in (lambda: TONGUE.read_reply(body, asked()), lambda: read_stream(b"data: " + body + b"\n\n")):
        with suppress(GatewayError):
            read()


STREAM = b"".join([
    chunk({"text": "hm", "thought": True}),
    chunk({"text": "né"}).replace(b"\n", b"\r\n"),
    chunk({"functionCall": {"name": "f", "args": {}}}),
    chunk(finishReason="STOP", usageMetadata={"promptTokenCount": 1}),
])  # fmt: skip


@given(chunked(STREAM))
def test_any_chunking_gives_the_same_events(pieces):
    splitter = EventSplitter()
    events = [said for piece in pieces for said in splitter.feed(piece)]
    assert read_stream(*events) == read_stream(*EventSplitter().feed(STREAM))
