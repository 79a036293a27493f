"""Every failure of an outbound proxy in every phase, as the gateway's client sees it: the next proxy, or a refusal.

Each fault has upstreams of its own in one gateway: one behind the faulty proxy *alone*, one *backed* by a sound proxy.
The provider would answer whoever came directly; nobody does.
"""

import asyncio
from pathlib import Path
from typing import Any, NamedTuple, get_args

import pytest

from tests.aio import run
from tests.integration.failing_upstream import FailingUpstreams
from tests.integration.live_gateway import Answer, live
from tests.integration.proxy_server import PHASES, Act, ByteProxy, Fault, proxying
from tests.integration.test_upstream_failures import FULL_NUSD, PRICES, good_acts
from trollproxy.records import Charge

FAULTS = {
    f"{kind}-{phase}-{act}": (kind, Fault(phase, act))
    for kind, phases in PHASES.items()
    for phase in phases
    for act in get_args(Act)
}
TIMEOUTS = {"connect": "300ms", "firstByte": "300ms"}
AT_ONCE = 4
MOST = 3  # tries


class Played(NamedTuple):
    """One request from all sides. `knocks`: how many connections the faulty proxy was asked for."""

    answer: Answer
    knocks: int
    is_seen: bool  # by the provider
    charge: Charge


class Street:
    """All faulty proxies, each for one upstream, and a sound one."""

    def __init__(self) -> None:
        self.sound = ByteProxy("http")
        self.faulty: dict[str, ByteProxy] = {}
        for place, (kind, fault) in enumerate(FAULTS.values()):
            for mode in ("alone", "backed"):
                proxy = self.faulty[f"{mode}-{place}"] = ByteProxy(kind)
                proxy.fault = fault

    def config(self, upstreams: FailingUpstreams) -> dict[str, Any]:
        proxies = {name: f"{proxy.kind}://127.0.0.1:{proxy.port}" for name, proxy in self.faulty.items()}
        proxies["sound"] = f"http://127.0.0.1:{self.sound.port}"
        provider = {"baseUrl": upstreams.url("good"), "type": "openai", "apiKey": "any", "timeouts": TIMEOUTS}
        ways = {name: [name] if name.startswith("alone") else [name, "sound"] for name in self.faulty}
        return {
            "proxies": proxies,
            "upstreams": {name: {**provider, "proxies": through} for name, through in ways.items()},
            "models": [{"id": name, "upstream": name, "pricing": PRICES} for name in self.faulty],
            "limits": {"devRpm": 100_000, "proRpm": 100_000},
            "retry": {"tries": MOST},
            "proxyProbeInterval": 0,
        }


async def play_all(folder: Path) -> dict[str, Played]:
    street, upstreams, answers = Street(), FailingUpstreams(), dict[str, Answer]()
    upstreams.scripts["good"] = good_acts("openai", stream=False)
    at_once = asyncio.Semaphore(AT_ONCE)
    await upstreams.open()
    async with proxying(street.sound, *street.faulty.values()):
        async with live(folder, **street.config(upstreams)) as there:

            async def ask(name: str) -> None:
                async with at_once:
                    answers[name] = await there.ask(there.request(model=name, max_tokens=50))

            async with asyncio.TaskGroup() as group:
                for name in street.faulty:
                    group.create_task(ask(name))
            charges = {charge.model: charge for charge in (await there.books())[0]}
        assert upstreams.peers <= {*street.sound.ways, *(way for proxy in street.faulty.values() for way in proxy.ways)}
    await upstreams.close()
    seen = {asked.model for asked in upstreams.asked}
    return {name: Played(answers[name], street.faulty[name].accepted, name in seen, charges[name]) for name in answers}


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Played]:
    return run(play_all(tmp_path_factory.mktemp("proxies")))


@pytest.mark.parametrize("name", FAULTS)
def test_behind_a_faulty_proxy_alone(played: dict[str, Played], name: str) -> None:
    answer, knocks, is_seen, charge = played[f"alone-{list(FAULTS).index(name)}"]
    fault = FAULTS[name][1]
    assert not is_seen
    assert charge.cost_nusd == 0
    assert charge.code == answer.error_code
    if fault.phase != "opened":  # the proxy's own: it rests at once
        assert (answer.status, answer.error_code, knocks) == (502, "proxy_unavailable", 1)
        assert charge.ended_by == "provider_error_before_token"
    elif fault.act == "stall":
        assert (answer.status, answer.error_code, knocks) == (504, "upstream_timeout", 1)
    elif fault.act == "noise":  # whose it is depends on whether it comes in one piece with the grant
        assert answer.error_code in {"proxy_unavailable", "upstream_broken", "upstream_unavailable"}
        assert knocks in {1, MOST}
    else:  # the way was open: it may be the provider, or the proxy, so it is tried again
        assert answer.status == 502
        assert answer.error_code in {"upstream_broken", "upstream_unavailable"}
        assert knocks == MOST


@pytest.mark.parametrize("name", FAULTS)
def test_beside_a_sound_proxy(played: dict[str, Played], name: str) -> None:
    """The client notices nothing, but for a provider that seems to hang: that is not asked again."""
    answer, knocks, is_seen, charge = played[f"backed-{list(FAULTS).index(name)}"]
    fault = FAULTS[name][1]
    assert knocks == 1
    if fault == Fault("opened", "stall"):
        assert (answer.status, answer.error_code, is_seen) == (504, "upstream_timeout", False)
        return
    assert (answer.status, is_seen, charge.cost_nusd) == (200, True, FULL_NUSD)
