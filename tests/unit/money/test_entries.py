"""What the journal says, and what a restart reads from it."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes import make_charge, make_intent, make_price
from trollproxy.chat import Usage
from trollproxy.money.entries import Entry, Settled, Unsettled, decode, encode, settle_crashed
from trollproxy.records import Charge, Intent, Progress

NUSD = st.integers(0, 2**62)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
USAGES = st.builds(Usage, *(st.integers(0, 2**40) for _ in Usage.__struct_fields__))
TWICE = make_price(out_text=2_000_000_000)

INTENTS = st.builds(
    make_intent,
    st.integers(0, 9),
    username=TEXT,
    friend_key_id=st.none() | TEXT,
    wallet=st.sampled_from(["legacy", "new"]),
    format=st.sampled_from(["openai_chat", "anthropic"]),
    upstream_model=TEXT,
    stream=st.booleans(),
    upstream_price=st.sampled_from([None, TWICE]),
    input_bytes=NUSD,
    hold_nusd=NUSD,
    lost_cost_nusd=NUSD,
    started_at_s=FINITE,
)
PROGRESSES = st.builds(
    Progress,
    request_id=st.integers(0, 9).map("req-{}".format),
    usage=st.none() | USAGES,
    is_usage_final=st.booleans(),
    output_bytes=NUSD,
)
CHARGES = st.builds(
    make_charge,
    st.integers(0, 9),
    username=TEXT,
    code=TEXT,
    usage=USAGES,
    is_estimated=st.booleans(),
    cost_nusd=NUSD,
    upstream_cost_nusd=st.none() | NUSD,
    lost_cost_nusd=NUSD,
    first_token_ms=st.none() | FINITE,
    duration_ms=FINITE,
)
ENTRIES = INTENTS | PROGRESSES | CHARGES.map(Settled)


def progress(number: int, usage: Usage | None = None, *, is_final: bool = False, output_bytes: int = 40) -> Progress:
    return Progress(request_id=f"req-{number}", usage=usage, is_usage_final=is_final, output_bytes=output_bytes)


def unsettled(*entries: Entry) -> Unsettled:
    found = Unsettled()
    for number, entry in enumerate(entries, start=1):
        found.take(number, entry)
    return found


@settings(deadline=None)
@given(ENTRIES)
def test_what_is_written_is_read(entry: Entry) -> None:
    assert decode(encode(entry)) == entry


@pytest.mark.parametrize("data", [b"", b"\x00", b"\x81\xa4type\xa3off", encode(make_intent(1))[:-1]])
def test_what_is_no_entry_is_not_taken_for_one(data: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        decode(data)


def test_a_charge_that_an_older_program_wrote_is_read() -> None:
    """What has a default may be missing, and what is unknown is passed over."""
    written = msgspec.msgpack.decode(encode(Settled(make_charge(1))))
    written["charge"]["added_later"] = 1
    del written["charge"]["is_estimated"], written["charge"]["lost_cost_nusd"]
    assert decode(msgspec.msgpack.encode(written)) == Settled(make_charge(1))


def test_an_intent_without_a_charge_is_unsettled() -> None:
    assert len(unsettled()) == 0
    found = unsettled(make_intent(1), make_intent(2), progress(1), Settled(make_charge(1)))
    assert len(found) == 1
    assert [charge.request_id for charge in found.crashed()] == ["req-2"]
    found.take(99, Settled(make_charge(2)))
    assert (len(found), found.crashed()) == (0, [])


def test_the_crashed_are_charged_in_the_order_of_their_intents() -> None:
    found = unsettled(*(make_intent(number) for number in (3, 1, 2)), progress(2), Settled(make_charge(1)))
    assert [charge.request_id for charge in found.crashed()] == ["req-3", "req-2"]
    assert [charge.seq for charge in found.crashed()] == [0, 0]


def test_the_last_progress_counts() -> None:
    found = unsettled(make_intent(1), progress(1, output_bytes=40), progress(1, output_bytes=4_000))
    assert found.crashed()[0].usage.out_text == 1_000


@pytest.mark.parametrize("late", [progress(1), Settled(make_charge(1))])
def test_what_belongs_to_nothing_open_is_passed_over(late: Entry) -> None:
    found = unsettled(make_intent(1), Settled(make_charge(1)), late)
    assert (len(found), found._progress) == (0, {})
    assert len(unsettled(late)) == 0


@settings(deadline=None)
@given(st.lists(ENTRIES, max_size=40))
def test_every_open_intent_gets_exactly_one_charge(entries: list[Entry]) -> None:
    opened: dict[str, Intent] = {}
    for entry in entries:
        if isinstance(entry, Intent):
            opened[entry.request_id] = entry
        elif isinstance(entry, Settled):
            opened.pop(entry.charge.request_id, None)
    found = unsettled(*entries)
    assert sorted(charge.request_id for charge in found.crashed()) == sorted(opened)
    assert set(found._progress) <= set(opened)


def test_before_a_token_a_crash_is_free() -> None:
    charge = settle_crashed(make_intent(1, upstream_price=TWICE), None)
    assert (charge.ended_by, charge.usage, charge.cost_nusd) == ("gateway_crashed_before_token", Usage(), 0)
    assert (charge.upstream_cost_nusd, charge.is_estimated) == (0, False)
    assert (charge.status, charge.code) == (500, "gateway_crashed")


def test_a_crash_charges_what_was_relayed_by_its_size() -> None:
    charge = settle_crashed(make_intent(1, input_bytes=400), progress(1, output_bytes=40))
    assert (charge.ended_by, charge.is_estimated) == ("gateway_crashed", True)
    assert charge.usage == Usage(uncached=100, out_text=10)
    assert charge.cost_nusd == 110_000


def test_a_crash_after_the_providers_count_charges_that() -> None:
    said = Usage(uncached=7, out_text=5)
    charge = settle_crashed(make_intent(1, upstream_price=TWICE), progress(1, said, is_final=True, output_bytes=4_000))
    assert (charge.usage, charge.is_estimated) == (said, False)
    assert (charge.cost_nusd, charge.upstream_cost_nusd) == (12_000, 17_000)


def test_a_crash_amid_a_running_count_adds_what_was_relayed() -> None:
    charge = settle_crashed(make_intent(1), progress(1, Usage(uncached=7, out_text=1), output_bytes=400))
    assert (charge.usage, charge.is_estimated) == (Usage(uncached=7, out_text=100), True)


def test_a_crashs_charge_tells_the_facts_of_its_intent() -> None:
    intent = make_intent(
        1, friend_key_id="fk", username="bob", wallet="new", format="anthropic", stream=True, lost_cost_nusd=3
    )
    charge = settle_crashed(intent, progress(1))
    shared = set(Intent.__struct_fields__) & set(Charge.__struct_fields__)
    assert {name: getattr(charge, name) for name in shared} == {name: getattr(intent, name) for name in shared}
    assert (charge.price_version, charge.multiplier_micro) == (intent.price.version, intent.price.multiplier_micro)
    assert (charge.upstream_key_id, charge.first_token_ms) == ("", None)


def test_the_last_intent_of_an_exchange_counts_and_stands_at_its_own_place() -> None:
    unsettled = Unsettled()
    for number, intent in enumerate((make_intent(1), make_intent(2), make_intent(1, provider="other")), start=1):
        unsettled.take(number, intent)
    assert list(unsettled.numbers().items()) == [("req-2", 2), ("req-1", 3)]
    assert [charge.provider for charge in unsettled.crashed()] == ["acme", "other"]
