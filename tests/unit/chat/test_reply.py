"""A stream amounts to one answer, however its parts overlap."""

from trollproxy.chat import (
    Choice,
    Citation,
    Counted,
    Ended,
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
    events_of,
    said_in,
)

SIGNATURE = State("anthropic", "c2ln")


def test_parts_that_overlap_are_put_in_order_of_their_start() -> None:
    reply = collect(
        [
            Started(reply_id="r", model="m"),
            PartStarted(index=0, part=ToolCall(call_id="a", name="f")),
            PartStarted(index=1, part=ToolCall(call_id="b", name="g")),
            PartGrew(index=1, text='{"y":'),
            PartGrew(index=0, text='{"x":1}'),
            PartGrew(index=1, text="2}"),
            PartEnded(index=0),
            PartEnded(index=1),
            Finished(finish="tool_calls"),
            Counted(usage=Usage(uncached=1), is_final=False),
            Counted(usage=Usage(uncached=1, out_text=2), is_final=True),
            Ended(),
        ]
    )
    first = ToolCall(call_id="a", name="f", arguments='{"x":1}')
    second = ToolCall(call_id="b", name="g", arguments='{"y":2}')
    choice = Choice(parts=(first, second), finish="tool_calls")
    assert reply == Reply(reply_id="r", model="m", choices=(choice,), usage=Usage(uncached=1, out_text=2))


def test_signatures_citations_and_scores_join_their_part() -> None:
    cited, score = Citation(url="https://a.test"), TokenScore(token="Hi", logprob=-0.5)
    reply = collect(
        [
            PartStarted(index=0, part=Thinking()),
            PartGrew(index=0, text="Hm"),
            PartSigned(index=0, state=SIGNATURE),
            PartStarted(index=1, part=Text(text="")),
            PartGrew(index=1, text="Hi"),
            PartCited(index=1, citation=cited),
            PartScored(index=1, scores=(score,)),
            Finished(finish="stop"),
        ]
    )
    said = Text(text="Hi", citations=(cited,), scores=(score,))
    assert reply.choices == (Choice(parts=(Thinking(text="Hm", state=SIGNATURE), said), finish="stop"),)


def test_every_choice_has_its_own_parts() -> None:
    choices = (
        Choice(parts=(Text(text="one"),), finish="stop"),
        Choice(parts=(Refusal(text="no"), Media(kind="image", data="aaaa")), finish="refusal"),
        Choice(parts=(), finish="stop_sequence", stop_sequence="END"),
    )
    reply = Reply(reply_id="r", model="m", choices=choices, usage=Usage())
    assert collect(events_of(reply)) == reply


def test_what_was_said_is_measured_in_bytes() -> None:
    assert len(said_in(Text(text="é"))) == 2
    assert len(said_in(ToolCall(call_id="x", name="f", arguments="{}"))) == 3
    assert len(said_in(Media(kind="image", data="aaaa"))) == 4
    assert len(said_in(Thinking(state=SIGNATURE))) == 0
