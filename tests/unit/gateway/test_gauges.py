"""The gauges read the parts as they are at the scrape."""

import asyncio

from tests.aio import run
from tests.fakes import NOON_S, make_charge
from tests.unit.gateway.house import House, ask, play, whole
from trollproxy.gateway.gauges import register_gauges
from trollproxy.money.writer import Writer


def render(house: House, writer: Writer) -> dict[str, float]:
    register_gauges(
        house.metrics,
        gate=house.gate,
        writer=writer,
        accounts=house.accounts,
        callers=house.callers,
        live=house.live,
    )
    lines = [line for line in house.metrics.render().decode().splitlines() if not line.startswith("#")]
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


def make_writer(house: House) -> Writer:
    return Writer(house.store, house.accounts, writer_id="w", interval_s=0.0, jitter=lambda: 0.0)


def test_at_rest() -> None:
    async def scene() -> None:
        house = House()
        found = render(house, make_writer(house))
        for name in (
            "requests_in_flight",
            "writer_queued_charges",
            "writer_lag_seconds",
            "writer_failures",
            "held_usd",
        ):
            assert found[f"trollproxy_{name}"] == 0
        assert found['trollproxy_upstream_keys{provider="acme",state="healthy"}'] == 2
        assert found['trollproxy_upstream_keys{provider="acme",state="resting"}'] == 0

    run(scene())


def test_at_work() -> None:
    async def scene(house: House) -> None:
        task = house.begin(ask())
        await house.checkpoints.reached.wait()
        pool = house.live.snapshot.keys["acme"]
        key = pool.pick(0.0)
        assert key is not None
        pool.report_failure(key, house.clock.now_s + 5)
        writer = make_writer(house)
        writer.record(make_charge(1, started_at_s=NOON_S - 7))
        found = render(house, writer)
        assert found["trollproxy_requests_in_flight"] == 1
        assert found["trollproxy_writer_queued_charges"] == 1
        assert found["trollproxy_writer_lag_seconds"] == 7
        assert found["trollproxy_callers_in_memory"] == 1
        assert 0 < found["trollproxy_held_usd"] < 1
        assert found['trollproxy_upstream_keys{provider="acme",state="resting"}'] == 1
        task.cancel()
        await asyncio.wait([task])

    async def last_await(house: House) -> None:
        await house.begin(ask())

    names = play(lambda: House(whole()), last_await).checkpoints.passed
    play(lambda: House(whole(), stop_at=names.index("upstream read") + 1), scene)
