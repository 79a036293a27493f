"""Thoughts return to where they stood: before the call that they led to."""

from trollproxy.chat import Part, Request, State, Text, Thinking, ToolCall, Turn
from trollproxy.wire.thoughts import Memory, memories, with_thoughts

HI = Text(text="Let me look.")
SIGNED = Thinking(text="Hm.", state=State("anthropic", "s1"))
AGAIN = Thinking(text="And?", state=State("anthropic", "s2"))
CALL_STATE = State("gemini", "g1")


def call(name: str, state: State | None = None) -> ToolCall:
    return ToolCall(call_id=name, name="f", state=state)


def recalled(kept: dict[str, Memory], *parts: Part) -> tuple[Part, ...]:
    request = Request(model="m", turns=(Turn("user", (HI,)), Turn("assistant", parts)))
    return with_thoughts(request, kept.get).turns[1].parts


def test_an_answer_comes_back_whole_when_the_client_kept_only_words_and_calls() -> None:
    kept = memories((SIGNED, HI, call("a"), AGAIN, call("b", CALL_STATE), call("c")))
    assert list(kept) == ["a", "b"]
    assert recalled(kept, HI, call("a"), call("b"), call("c")) == (
        SIGNED, HI, call("a"), AGAIN, call("b", CALL_STATE), call("c"),
    )  # fmt: skip


def test_unsigned_words_that_the_client_kept_give_way_to_the_signed_ones() -> None:
    kept = memories((SIGNED, call("a")))
    for state in (None, State("openai_chat", "")):  # the latter tells only from which field the words are
        assert recalled(kept, Thinking(text="Hm.", state=state), HI, call("a")) == (SIGNED, HI, call("a"))


def test_a_client_that_brings_its_thoughts_is_left_alone() -> None:
    kept = memories((SIGNED, call("a", CALL_STATE)))
    assert recalled(kept, SIGNED, HI, call("a")) == (SIGNED, HI, call("a", CALL_STATE))
    other = State("gemini", "own")
    assert recalled(kept, SIGNED, call("a", other)) == (SIGNED, call("a", other))


def test_nothing_is_remembered_of_an_answer_without_state() -> None:
    assert memories((Thinking(text="Hm."), HI, call("a"))) == {}
    assert recalled({}, HI, call("a")) == (HI, call("a"))


def test_the_size_counts_words_and_signatures() -> None:
    assert memories((SIGNED, call("a", CALL_STATE)))["a"].size == len("Hm." + "s1" + "g1")
