"""The boundaries of the fault tests: the right one, the right time, and none in service."""

import os
import re
from pathlib import Path

import pytest

from trollproxy.money import boundaries
from trollproxy.money.boundaries import BOUNDARIES, CRASHED, crash_at, pass_by

PACKAGE = Path(boundaries.__file__).parents[1]


class Exited(BaseException):
    """What stands for the end of the process."""


@pytest.fixture
def exits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    codes: list[int] = []

    def leave(code: int) -> None:
        codes.append(code)
        raise Exited

    monkeypatch.setattr(os, "_exit", leave)
    return codes


@pytest.mark.parametrize("name", BOUNDARIES)
def test_the_first_passing_unless_told(exits: list[int], name: str) -> None:
    at = crash_at(name)
    for other in set(BOUNDARIES) - {name}:
        at(other)
    assert exits == []
    with pytest.raises(Exited):
        at(name)
    assert exits == [CRASHED]


def test_the_nth_passing(exits: list[int]) -> None:
    at = crash_at("after_put_down:3")
    for _ in range(2):
        at("after_put_down")
        at("before_put_down")
    assert exits == []
    with pytest.raises(Exited):
        at("after_put_down")


def test_each_counts_for_itself(exits: list[int]) -> None:
    one, two = crash_at("after_flush:2"), crash_at("after_flush:2")
    one("after_flush")
    two("after_flush")
    assert exits == []


@pytest.mark.parametrize("text", ["", "nothing", "after_put_downs", "nothing:1", " after_put_down", "after_put_down:x"])
def test_what_would_test_nothing_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"none of|invalid literal"):
        crash_at(text)


def test_service_passes_by(exits: list[int]) -> None:
    for name in BOUNDARIES:
        pass_by(name)
    assert exits == []


def test_every_boundary_is_passed_somewhere_and_no_other() -> None:
    sources = [path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")]
    passed = {name for text in sources for name in re.findall(r"""\bat\("(\w+)"\)""", text)}
    passed |= {name for text in sources for name in re.findall(r"""\b_at\("(\w+)"\)""", text)}
    assert passed == set(BOUNDARIES)
    assert len(set(BOUNDARIES)) == len(BOUNDARIES)


def test_a_crash_is_told_from_our_own_ends() -> None:
    assert CRASHED not in {0, 1, 2}
