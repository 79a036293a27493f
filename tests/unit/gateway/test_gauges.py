"""The gauges read the parts as they are at the scrape."""

import asyncio
from typing import Any

import msgspec
import pytest

from tests.aio import run
from tests.fakes import make_charge, make_intent
from tests.unit.gateway.house import House, ask, play, whole
from trollproxy.errors import InvalidRequest, Overloaded, UpstreamRateLimited
from trollproxy.gateway.gauges import register_gauges, register_journal_gauges, shown_state
from trollproxy.money.journal import JournalUnavailable
from trollproxy.policy.status import MemberStatus
from trollproxy.policy.throttle import CUT
from trollproxy.records import Pace


def render(house: House) -> dict[str, float]:
    lines = [line for line in house.metrics.render().decode().splitlines() if not line.startswith("#")]
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


def registered(house: House) -> House:
    register_gauges(
        house.metrics,
        gate=house.gate,
        writer=house.writer,
        accounts=house.accounts,
        callers=house.callers,
        live=house.live,
    )
    register_journal_gauges(house.metrics, house.journal, house.recorder)
    return house


def test_at_rest() -> None:
    async def scene() -> None:
        found = render(registered(House()))
        for name in (
            "requests_in_flight",
            "writer_queued_charges",
            "writer_failures",
            "charges_set_aside",
            "charges_refused_by_disk",
            "held_usd",
            "journal_bytes",
            "journal_unacknowledged_bytes",
            "journal_broken",
            "journal_quarantined",
        ):
            assert found[f"trollproxy_{name}"] == 0
        assert found['trollproxy_upstream_keys{provider="acme",state="healthy"}'] == 2
        assert found['trollproxy_upstream_keys{provider="acme",state="resting"}'] == 0
        assert found['trollproxy_upstream_keys{provider="acme",state="lost"}'] == 0
        assert found['trollproxy_breakers_open{provider="acme"}'] == 0

    run(scene())


def test_at_work() -> None:
    async def scene(house: House) -> None:
        registered(house)
        task = house.begin(ask())
        await house.checkpoints.reached.wait()
        pool = house.live.snapshot.keys["acme"]
        lease = pool.pick(0.0)
        assert lease is not None
        lease.report("rate", house.clock.now_s, 5.0)
        breaker = house.live.snapshot.breakers["acme", "m"]
        breaker.state, breaker.changes = "open", {"open": 2}
        house.recorder.record(make_charge(1))
        found = render(house)
        assert found["trollproxy_requests_in_flight"] == 1
        assert found["trollproxy_writer_queued_charges"] == 1
        assert found["trollproxy_callers_in_memory"] == 1
        assert 0 < found["trollproxy_held_usd"] < 1
        assert found['trollproxy_upstream_keys{provider="acme",state="resting"}'] == 1
        assert found['trollproxy_upstream_key_changes_total{cause="rate",change="resting",provider="acme"}'] == 1
        assert found['trollproxy_breakers_open{provider="acme"}'] == 1
        assert found['trollproxy_breaker_changes_total{provider="acme",state="open"}'] == 2
        task.cancel()
        await asyncio.wait([task])

    async def last_await(house: House) -> None:
        await house.begin(ask())

    names = play(lambda: House(whole()), last_await).checkpoints.passed
    play(lambda: House(whole(), stop_at=names.index("upstream read") + 1), scene)


def test_throttles() -> None:
    async def scene() -> None:
        house = registered(House())
        house.provider = msgspec.structs.replace(house.provider, pace=Pace(max_in_flight=1, max_queue=1))
        house.show()
        now = house.clock.clock.monotonic
        turnstile = house.live.snapshot.turnstiles["acme"]
        slot = turnstile.enter(now)
        assert slot is not None
        waiting = asyncio.create_task(turnstile.wait(now, is_retry=False))
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await turnstile.wait(now, is_retry=False)
        slot.report(UpstreamRateLimited("x"))
        found = render(house)
        assert found['trollproxy_throttle_waiting{provider="acme"}'] == 1
        assert found['trollproxy_throttle_share{provider="acme"}'] == CUT
        assert found['trollproxy_throttle_cuts_total{provider="acme"}'] == 1
        assert found['trollproxy_throttle_refused_total{cause="full",provider="acme"}'] == 1
        assert found['trollproxy_throttle_refused_total{cause="timeout",provider="acme"}'] == 0
        slot.release()
        await waiting

    run(scene())


def test_the_journal_and_what_waits_for_the_disk() -> None:
    async def scene() -> None:
        house = registered(House())
        house.recorder.intend(make_intent(1))
        house.journal.refusing, house.journal.is_broken, house.journal.quarantined = "everything", True, 2
        house.recorder.record(make_charge(1))
        with pytest.raises(JournalUnavailable):
            house.recorder.intend(make_intent(2))
        found = render(house)
        assert found["trollproxy_journal_bytes"] == found["trollproxy_journal_unacknowledged_bytes"] > 0
        assert found["trollproxy_journal_broken"] == 1
        assert found["trollproxy_journal_quarantined"] == 2
        assert found["trollproxy_charges_refused_by_disk"] == 1
        assert found["trollproxy_writer_queued_charges"] == 0

    run(scene())


def test_what_is_flushed_is_acknowledged_and_what_is_refused_for_good_counted() -> None:
    async def scene() -> None:
        house = registered(House())
        house.store.failing.extend(InvalidRequest("No.", code="ledger_conflict") for _ in range(2))
        house.recorder.record(make_charge(1))
        await house.writer.flush(1.0)
        found = render(house)
        assert found["trollproxy_charges_set_aside"] == 1
        assert found["trollproxy_writer_queued_charges"] == 0
        assert found["trollproxy_journal_unacknowledged_bytes"] == 0 < found["trollproxy_journal_bytes"]

    run(scene())


def test_one_word_for_a_key() -> None:
    key = MemberStatus(
        id="k", state="healthy", failure=None, is_lost=False, rests_for_s=0.0, leases=0, is_standing_by=False
    )
    lost = {"state": "resting", "is_lost": True}
    changed: list[dict[str, Any]] = [{}, {"is_standing_by": True}, {"state": "half_open"}, lost]
    words = [shown_state(msgspec.structs.replace(key, **changes)) for changes in changed]
    assert words == ["healthy", "standing_by", "half_open", "lost"]
