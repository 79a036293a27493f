"""A virtual day of a pool of keys of which some fail at any time: `python -m scripts.pool_simulation`.

Only the policy runs (pool, tries, budget), on a virtual clock, with seeded randomness: keys are throttled, revoked and
run dry, and come back; requests arrive, fail for reasons of their own, and are tried again. Three things must hold and
are asserted of every request and every failure:

- no healthy key is idle while a request fails for want of one;
- a dead key is tried by its probes and no more (and by what was on its way when it died);
- a key that is good again is used again within its bound.
"""

import argparse
import random
from collections import Counter
from collections.abc import Iterator
from heapq import heappop, heappush
from itertools import count
from math import ceil, inf, log2
from statistics import median

import msgspec

from trollproxy.errors import (
    Failure,
    GatewayError,
    UpstreamAuthFailed,
    UpstreamBroken,
    UpstreamBudgetSpent,
    UpstreamRateLimited,
    UpstreamRejected,
)
from trollproxy.gateway.snapshot import KEY_RESTS
from trollproxy.policy.pool import PROBE_PATIENCE_S, Lease, Member, Pool
from trollproxy.policy.retrying import Next, RetryBudget, RetryPolicy, Tries

DAY_S = 86_400.0
REFUSAL_S = 0.1  # how soon a provider says no
TOLD_SHARE = 0.5  # of throttled keys' providers say how long it takes
GAP_S = 30.0  # the longest time that the simulated traffic leaves between two first tries of a pool
_ERRORS: dict[str, type[GatewayError]] = {
    "auth": UpstreamAuthFailed,
    "budget": UpstreamBudgetSpent,
    "rate": UpstreamRateLimited,
}


ILLS: dict[Failure, tuple[float, float]] = {
    "rate": (1_800.0, 45.0),
    "budget": (40_000.0, 10_000.0),
    "auth": (60_000.0, 20_000.0),
}


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is simulated."""

    keys: int = 50
    day_s: float = DAY_S
    requests_per_s: float = 4.0
    max_in_flight: int = 4  # of a key
    answer_s: float = 8.0  # on average
    content_share: float = 0.02
    network_share: float = 0.01
    # How often a key falls ill, on average, and for how long.
    ills: dict[Failure, tuple[float, float]] = msgspec.field(default_factory=lambda: dict(ILLS))
    revoked: int = 3  # keys that die at some time and never come back
    seed: int = 1


class Illness(msgspec.Struct):
    """A time in which a key refuses everything."""

    failure: Failure
    begins_s: float
    ends_s: float
    tries: int = 0
    allowed: int = 0  # on the way when it began, and probes
    retry_after_s: float | None = None

    def probes(self) -> int:
        """As many as fit into it: the rests double up to their bound."""
        rest = KEY_RESTS[self.failure]
        lasts_s = self.ends_s - self.begins_s
        doubling = ceil(log2(rest.longest_s / rest.first_s)) + 1
        return 1 + min(doubling, ceil(lasts_s / rest.first_s)) + ceil(lasts_s / rest.longest_s)


class Figures(msgspec.Struct):
    """What came of it."""

    requests: int = 0
    answered: int = 0
    failed: Counter[str] = msgspec.field(default_factory=Counter)
    tries: int = 0
    illnesses: int = 0
    dead_tries: int = 0
    most_dead_tries: int = 0
    recoveries_s: list[float] = []
    idle_healthy: int = 0  # healthy keys that were idle when a request found none
    gave_up: int = 0  # requests that had used all their tries, or the budget of retries, while there was one


class Simulation:
    """One run."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.figures = Figures(recoveries_s=[])
        self.random = random.Random(plan.seed)
        names = [f"key-{number}" for number in range(1, plan.keys + 1)]
        members = [Member(id=name, value=name, max_leases=plan.max_in_flight) for name in names]
        self.pool = Pool(members, KEY_RESTS)
        self.budget = RetryBudget(1.2)
        self.illnesses = {name: self._fate(name in names[: plan.revoked]) for name in names}
        self.ill: dict[str, Illness] = {}
        self.recovering: dict[str, Illness] = {}
        self.now_s = 0.0
        self._events: list[tuple[float, int, Iterator[float]]] = []
        self._numbers = count()

    def run(self) -> Figures:
        self._begin(self._arrivals(), 0.0)
        for name, illnesses in self.illnesses.items():
            self._begin(self._health(name, illnesses), 0.0)
        while self._events:
            self.now_s, _, process = heappop(self._events)
            wait_s = next(process, None)
            if wait_s is not None and self.now_s + wait_s < inf:
                self._begin(process, wait_s)
        return self.figures

    def _begin(self, process: Iterator[float], wait_s: float) -> None:
        heappush(self._events, (self.now_s + wait_s, next(self._numbers), process))

    def _fate(self, is_revoked: bool) -> list[Illness]:
        """A key's day, illness after illness."""
        fate: list[Illness] = []
        for failure, (every_s, for_s) in self.plan.ills.items():
            at_s = self.random.expovariate(1 / every_s)
            while at_s < self.plan.day_s:
                lasts_s = self.random.expovariate(1 / for_s)
                told = lasts_s if failure == "rate" and self.random.random() < TOLD_SHARE else None
                fate.append(Illness(failure=failure, begins_s=at_s, ends_s=at_s + lasts_s, retry_after_s=told))
                at_s += lasts_s + self.random.expovariate(1 / every_s)
        if is_revoked:
            fate.append(Illness(failure="auth", begins_s=self.random.uniform(0, self.plan.day_s / 2), ends_s=inf))
        return sorted(fate, key=lambda illness: illness.begins_s)

    def _health(self, name: str, illnesses: list[Illness]) -> Iterator[float]:
        """Let the key fall ill and get well; of two at one time, the later begins when the earlier is over."""
        for illness in illnesses:
            begins_s = max(illness.begins_s, self.now_s)
            lasts_s = illness.ends_s - illness.begins_s
            if begins_s >= self.plan.day_s:
                return
            yield begins_s - self.now_s
            illness.begins_s, illness.ends_s = self.now_s, min(self.now_s + lasts_s, self.plan.day_s)
            self._fall_ill(name, illness)
            yield illness.ends_s - self.now_s
            del self.ill[name]
            if self.now_s < self.plan.day_s and illness.tries:
                self.recovering[name] = illness

    def _fall_ill(self, name: str, illness: Illness) -> None:
        self.recovering.pop(name, None)
        on_their_way = next(key.leases for key in self.pool.status(self.now_s) if key.id == name)
        # Until the first refusal is in, more may be sent.
        illness.allowed = max(on_their_way, self.plan.max_in_flight) + illness.probes()
        self.ill[name] = illness
        self.figures.illnesses += 1

    def _arrivals(self) -> Iterator[float]:
        while self.now_s < self.plan.day_s:
            self._begin(self._request(), 0.0)
            yield self.random.expovariate(self.plan.requests_per_s)

    def _request(self) -> Iterator[float]:
        tries = Tries(RetryPolicy(), 1, self.now_s)
        self.figures.requests += 1
        self.budget.add()
        step, error = tries.first(self._wait_s), None
        while step is not None:
            if step.wait_s:
                yield step.wait_s
            lease = self.pool.pick(self.now_s, may_probe=tries.is_first)
            if lease is None:
                step = tries.instead(self._wait_s, self.random.random())
                continue
            error = self._refusal(lease)
            yield REFUSAL_S
            step = self._judge(tries, lease, error)
            if error is None:
                yield self.random.expovariate(1 / self.plan.answer_s)
                lease.release()
                self.figures.answered += 1
                return
        self._fail(error, is_spent=tries.count >= RetryPolicy().max_tries or self.budget.left < 1)

    def _judge(self, tries: Tries, lease: Lease[str], error: GatewayError | None) -> Next | None:
        """Report the try; the next one, if there is any."""
        verdict = error.failure if error is not None else "ok"
        assert verdict is not None
        lease.report(verdict, self.now_s, error.retry_after_s if error is not None else None)
        if error is None:
            self._recovered(lease.id)
            return None
        lease.release()
        chance = self.random.random()
        return tries.after(error, self.now_s, wait=self._wait_s, chance=chance, budget=self.budget)

    def _refusal(self, lease: Lease[str]) -> GatewayError | None:
        self.figures.tries += 1
        illness = self.ill.get(lease.id)
        if illness is not None:
            self._note_dead_try(lease.id, illness)
            left_s = illness.ends_s - self.now_s
            told = left_s if illness.retry_after_s is not None else None
            return _ERRORS[illness.failure]("x", retry_after_s=told)
        draw = self.random.random()
        if draw < self.plan.content_share:
            return UpstreamRejected("x")
        return UpstreamBroken("x") if draw < self.plan.content_share + self.plan.network_share else None

    def _note_dead_try(self, name: str, illness: Illness) -> None:
        illness.tries += 1
        self.figures.dead_tries += 1
        self.figures.most_dead_tries = max(self.figures.most_dead_tries, illness.tries)
        assert illness.tries <= illness.allowed, f"{name}: {illness}"

    def _recovered(self, name: str) -> None:
        illness = self.recovering.pop(name, None)
        if illness is not None:
            took_s = self.now_s - illness.ends_s
            self.figures.recoveries_s.append(took_s)
            bound_s = KEY_RESTS[illness.failure].longest_s + PROBE_PATIENCE_S + GAP_S
            assert took_s <= bound_s, f"{name} took {took_s:.0f} s: {illness}"

    def _fail(self, error: GatewayError | None, *, is_spent: bool) -> None:
        """A request has failed. If it was for want of a key, none may stand idle that could have served it."""
        failure = error.failure if error is not None else None
        self.figures.failed[failure or "no key"] += 1
        if failure in {"content", "network"}:
            return
        most = self.plan.max_in_flight
        healthy = [key for key in self.pool.status(self.now_s) if key.state == "healthy" and key.id not in self.ill]
        idle = [key.id for key in healthy if key.leases < most]
        if is_spent:
            self.figures.gave_up += bool(idle)
            return
        self.figures.idle_healthy += len(idle)
        assert not idle, f"{idle} could have served the request"

    def _wait_s(self, _: int) -> float:
        return self.pool.free_at_s(self.now_s) - self.now_s


def told(plan: Plan, figures: Figures) -> list[str]:
    """The figures for people."""
    recoveries = sorted(figures.recoveries_s)
    served = figures.requests - figures.failed["content"]
    return [
        f"{plan.keys} keys, {plan.day_s / 3600:g} virtual hours, seed {plan.seed}",
        f"requests {figures.requests}, tries {figures.tries}, answered {figures.answered}",
        f"failed by their own fault {figures.failed['content']}, otherwise "
        + str({cause: number for cause, number in figures.failed.items() if cause != "content"}),
        f"answered of those without fault {figures.answered / served:.6%}",
        f"illnesses {figures.illnesses}, tries at ill keys {figures.dead_tries}",
        f"tries at an ill key {figures.dead_tries / figures.illnesses:.2f}, at most {figures.most_dead_tries}",
        f"recoveries {len(recoveries)}, median {median(recoveries):.1f} s, longest {recoveries[-1]:.0f} s",
        f"healthy keys idle while a request failed for want of one: {figures.idle_healthy}",
        f"requests out of tries while a healthy key was idle: {figures.gave_up}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="A virtual day of a pool of failing keys.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keys", type=int, default=50)
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--requests-per-s", type=float, default=4.0)
    given = parser.parse_args()
    plan = Plan(seed=given.seed, keys=given.keys, day_s=given.hours * 3600, requests_per_s=given.requests_per_s)
    for line in told(plan, Simulation(plan).run()):
        print(line)


if __name__ == "__main__":
    main()
