"""What each request of the load asks for, what the provider will answer, and what that must cost.

A plan is made before its request is sent and is known by its marker: the model's name, which no two requests share. The
gateway forwards it and puts it on the charge, so provider, client and books can be laid side by side. Pure; the same
seed makes the same plans. The cost here is reckoned on its own, with none of the gateway's arithmetic.
"""

import json
from fractions import Fraction
from random import Random
from typing import Any, Literal

import msgspec

from tests.e2e.talk import DIALECTS, DialectName

Fate = Literal["answer", "error", "broken"]  # the provider answers, refuses, or breaks off half-way
Cut = Literal["never", "when_sent", "after_head", "after_first_piece"]  # where the client hangs up

LEGACY, NEW = "m-", "n-"  # prefixes of model names; their requests spend one wallet each
# Prices and multiplier are crooked, so that nearly every bill has to be rounded.
USD_PER_MTOK = {"input": "3.000000007", "cacheHit": "0.300000011", "output": "15.000000013"}
MULTIPLIER = "1.050003"
MAX_TOKENS = 40
MAX_PIECES = 6
PIECE = "troll go"  # 8 bytes: two tokens, by the gateway's own count at most
TOKENS_A_PIECE = 2
MIN_BODY = "x" * 240  # so long that the difference between three and four bytes a token leaves room for chance
SHARES: dict[Fate, int] = {"answer": 94, "error": 3, "broken": 3}
CUTS: dict[Cut, int] = {"never": 80, "when_sent": 8, "after_head": 6, "after_first_piece": 6}
MAX_PAUSE_S = 0.03


class Person(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks. The weight is the person's share of the requests."""

    username: str
    secret: str
    weight: int


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """One request. Tokens are what the provider will report."""

    marker: str
    dialect: DialectName
    person: Person
    stream: bool
    body: bytes
    uncached: int
    read: int
    out: int
    pieces: int
    pause_s: float
    fate: Fate
    cut: Cut

    @property
    def full_nusd(self) -> int:
        """The bill for the usage that the provider reports, rounded half up."""
        counts = {"input": self.uncached, "cacheHit": self.read, "output": self.out}
        usd = sum(count * Fraction(USD_PER_MTOK[name]) for name, count in counts.items()) / 10**6
        return int(usd * Fraction(MULTIPLIER) * 10**9 + Fraction(1, 2))


def models() -> list[dict[str, Any]]:
    """The model list of the gateway's configuration."""
    named = {"upstream": "scripted", "pricing": USD_PER_MTOK, "billingMultiplier": MULTIPLIER}
    return [{"id": f"{LEGACY}*", "wallet": "legacy", **named}, {"id": f"{NEW}*", "wallet": "new", **named}]


class Planner:
    """Draws plans one by one."""

    def __init__(self, people: list[Person], rng: Random) -> None:
        self._people = people
        self._weights = [person.weight for person in people]
        self._rng = rng
        self.plans: dict[str, Plan] = {}

    def draw(self) -> Plan:
        rng = self._rng
        marker = f"{rng.choice((LEGACY, NEW))}{len(self.plans)}"
        dialect, stream = rng.choice(DIALECTS), rng.random() < 0.6
        # Twice as many tokens as are asked for would pass the hold; fewer than the gateway counts, its own estimate.
        asked = dialect.ask(MIN_BODY, model=marker, max_tokens=MAX_TOKENS, stream=stream)
        body = json.dumps(asked).encode()
        pieces = rng.randint(1, MAX_PIECES)
        plan = Plan(
            marker=marker,
            dialect=dialect.name,
            person=rng.choices(self._people, self._weights)[0],
            stream=stream,
            body=body,
            uncached=-(-len(body) // 4) + rng.randint(0, 9),
            read=rng.randint(0, 9),
            out=pieces * TOKENS_A_PIECE + rng.randint(0, 20),
            pieces=pieces,
            pause_s=rng.random() * MAX_PAUSE_S,
            fate=_pick(rng, SHARES),
            cut=_pick(rng, CUTS),
        )
        self.plans[marker] = plan
        return plan


def _pick(rng: Random, shares: dict[Any, int]) -> Any:
    return rng.choices(list(shares), list(shares.values()))[0]
