"""Replacing words: any pieces give what the whole gives, in time that grows with the text alone."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trollproxy.policy.filters import MAX_PATTERN, Filters, compile_filters, fold
from trollproxy.records import FilterRule


def rule(pattern: str, replacement: str = "-", **options: bool) -> FilterRule:
    return FilterRule(pattern=pattern, replacement=replacement, **options)


@pytest.mark.parametrize(
    ("rules", "text", "expected"),
    [
        ([rule("Droid", "agent")], "A Droid is no droid.", "A agent is no droid."),
        ([rule("droid", "agent", ignore_case=True)], "A Droid, an ANDROID", "A agent, an ANagent"),
        ([rule("droid", "agent", ignore_case=True, whole_word=True)], "Droid Android droid", "agent Android agent"),
        ([rule("Claude", "it"), rule("Claude Code", "the tool")], "Claude Code by Claude Co", "the tool by it Co"),
        ([rule("ab", "1"), rule("bcd", "2")], "abcd", "1cd"),  # the leftmost, though another is longer
        ([rule("ab", "1"), rule("ab", "2")], "ab", "1"),  # the first rule
        ([rule("AB", "1"), rule("ab", "2", ignore_case=True)], "AB ab", "1 2"),
        ([rule("abc", "1", whole_word=True), rule("ab", "2")], "abc abcd", "1 2cd"),
        ([rule("x", "")], "axbx", "ab"),
        ([rule("straße", "s", ignore_case=True)], "STRAßE \u0130\u03a3", "s \u0130\u03a3"),
        ([rule("\u03c3", "s", ignore_case=True)], "\u03a3\u03a3 \u03a3", "ss s"),
    ],
)  # fmt: skip
def test_what_is_replaced(rules: list[FilterRule], text: str, expected: str) -> None:
    assert Filters(rules).apply(text) == expected
    pieces = Filters(rules).stream()
    assert "".join(map(pieces.feed, text)) + pieces.finish() == expected


def test_what_was_replaced_is_not_looked_at_again() -> None:
    assert Filters([rule("ab", "a")]).apply("abb") == "ab"
    assert Filters([rule("droid", "Droid", ignore_case=True)]).apply("a DROID") == "a Droid"


def test_only_what_may_become_a_match_waits() -> None:
    stream = Filters([rule("Claude Code"), rule("bot", whole_word=True)]).stream()
    assert (stream.feed("Hello Cl"), stream.held) == ("Hello ", "Cl")
    assert (stream.feed("ear bot"), stream.held) == ("Clear ", "bot")
    assert (stream.feed("tom"), stream.held) == ("bottom", "")
    assert (stream.feed(" bot"), stream.finish()) == (" ", "-")


def test_no_rules_are_no_filters() -> None:
    assert compile_filters(()) is None


def test_folding_keeps_every_character_in_its_place() -> None:
    """Over all of Unicode, and in the middle and at the end of a word: so pieces fold like the whole."""
    for code in (*range(0xD800), *range(0xE000, 0x110000)):
        character = chr(code)
        alone = fold(character)
        assert (len(alone), fold(f"a{character}"), fold(f"a{character}a")) == (1, f"a{alone}", f"a{alone}a"), hex(code)


LETTERS = st.text(alphabet="abAB \u0130\u03a3\u03c3_", max_size=60)
RULES = st.lists(
    st.builds(
        FilterRule,
        pattern=st.text(alphabet="abAB \u03a3", min_size=1, max_size=5),
        replacement=st.sampled_from(["", "x", "yy"]),
        ignore_case=st.booleans(),
        whole_word=st.booleans(),
    ),
    min_size=1,
    max_size=6,
)


@given(rules=RULES, pieces=st.lists(LETTERS, max_size=8))
def test_pieces_give_what_the_whole_gives(rules: list[FilterRule], pieces: list[str]) -> None:
    filters = Filters(rules)
    stream = filters.stream()
    released = []
    for piece in pieces:
        released.append(stream.feed(piece))
        assert len(stream.held) <= filters.longest
    assert "".join(released) + stream.finish() == filters.apply("".join(pieces)) == slowly(rules, "".join(pieces))


@given(rules=RULES, text=LETTERS)
def test_a_text_without_matches_stays(rules: list[FilterRule], text: str) -> None:
    clean = "".join(character for character in text if character not in "abAB \u03a3\u03c3")
    assert Filters(rules).apply(clean) == clean


def slowly(rules: list[FilterRule], text: str) -> str:
    """The rules as they read, place by place."""
    written, place = "", 0
    while place < len(text):
        found = [each for each in rules if matches(each, text, place)]
        best = max(found, key=lambda each: len(each.pattern), default=None)
        written += best.replacement if best is not None else text[place]
        place += len(best.pattern) if best is not None else 1
    return written


def matches(each: FilterRule, text: str, place: int) -> bool:
    end = place + len(each.pattern)
    there, wanted = text[place:end], each.pattern
    if each.ignore_case:
        there, wanted = fold(there), fold(wanted)
    around = text[place - 1 : place] if place else "", text[end : end + 1]
    alone = not any(character.isalnum() or character == "_" for character in around)
    return there == wanted and (alone or not each.whole_word)


@pytest.mark.parametrize(
    ("rules", "unit"),
    [
        ([rule("a" * (MAX_PATTERN - 1) + "b", ignore_case=True), *(rule("a" * n + "c") for n in range(1, 63))], "a"),
        ([rule("a", whole_word=True)], "a"),
        ([rule("xa"), *(rule(("ax" * 64)[:n]) for n in range(3, 66))], "xa"),
        ([rule("ab" * n + "c") for n in range(1, 60)], "ab"),
    ],
)  # fmt: skip
def test_time_grows_with_the_text_and_no_faster(rules: list[FilterRule], unit: str) -> None:
    """Texts made to be slow for these very rules; a search that is quadratic takes 16 times as long for the four."""
    filters = Filters(rules)

    def took_s(size: int) -> float:
        text = unit * (size // len(unit))
        begun = time.perf_counter()
        filters.apply(text)
        return time.perf_counter() - begun

    took_s(10_000)
    small = min(took_s(50_000) for _ in range(3))
    large = min(took_s(200_000) for _ in range(2))
    assert large < 10 * small + 0.01
