"""Values with a unit: what is read, what is refused, and that nothing is rounded."""

from contextlib import suppress
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trollproxy.config.units import ByteSize, Multiplier, Seconds, SecondsOrOff, Usd


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("30s", 30),
        ("2m", 120),
        ("1h", 3600),
        ("1m30s", 90),
        ("0.5s", 0.5),
        (7, 7),
        ("7", 7),
        (0.1, 0.1),
    ],
)
def test_durations(text, seconds):
    assert Seconds.parse(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "-1s", "1d", "1 s", "1s ", None, True, "nan", [], "٣s"])
def test_bad_durations(text):
    with pytest.raises(ValueError):
        Seconds.parse(text)


@pytest.mark.parametrize(("text", "size"), [("32MiB", 2**25), ("64kB", 64_000), (4096, 4096), ("1.5 KiB", 1536)])
def test_sizes(text, size):
    assert ByteSize.parse(text) == size


@given(st.integers(1, 86_400_000))
def test_durations_survive_being_shown(milliseconds):
    seconds = Seconds.parse(f"{milliseconds}ms")
    assert seconds == milliseconds / 1000
    assert Seconds.parse(seconds.shown()) == seconds


@given(st.integers(0, 10**15))
def test_prices_survive_being_shown(nusd):
    price = Usd.parse(Decimal(nusd).scaleb(-9))
    assert price == nusd
    assert Usd.parse(price.shown()) == nusd


@given(st.integers(0, 10**6), st.integers(0, 9))
def test_prices_written_as_floats_are_what_was_written(number, decimals):
    assert Usd.parse(float(f"{number}e-{decimals}")) == number * 10 ** (9 - decimals)


@given(st.integers(1, 10**9))
def test_multipliers_survive_being_shown(micro):
    assert Multiplier.parse(Multiplier(micro).shown()) == micro


@given(st.text())
def test_any_text_is_read_or_refused(text):
    for unit in (Seconds, ByteSize, Usd, Multiplier):
        with suppress(ValueError):
            unit.parse(text)


@pytest.mark.parametrize(("value", "seconds"), [(0, 0), ("0", 0), ("0s", 0), ("1h", 3600), (0.5, 0.5)])
def test_a_duration_may_be_switched_off_where_that_makes_sense(value: object, seconds: float) -> None:
    found = SecondsOrOff.parse(value)
    assert found == seconds
    assert SecondsOrOff.parse(found.shown()) == seconds


@pytest.mark.parametrize("value", [-1, "25h", "never", None, False])
def test_off_is_nothing_but_zero(value: object) -> None:
    with pytest.raises(ValueError):
        SecondsOrOff.parse(value)
