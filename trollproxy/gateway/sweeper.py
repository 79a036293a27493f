"""The look at what is held, on a timer: the net under the rule that every exit of a request ends its hold.

Synchronous: between the looks at gate, holds and accounts nothing else runs, so what does not agree here is wrong. It
decides nothing for requests; what it finds is counted and logged, and only a hold that nobody will end is released.
"""

from collections.abc import Iterable

from trollproxy.gateway.gate import Gate
from trollproxy.money.accounts import Accounts
from trollproxy.money.holds import Holds
from trollproxy.money.invariants import Violations
from trollproxy.money.recorder import Recorder
from trollproxy.policy.retrying import RetryPolicy
from trollproxy.records import Timeouts

SENDS = 2  # a key's request is sent again once, where a connection kept open turns out to be closed
TRIES_S = RetryPolicy().deadline_s
PLACE_S = 10.0  # the upstream client's wait for one of an origin's connections
SLACK_S = 60.0  # reading out, settling, and a loop that is held up
MAX_NAMED = 100  # ids in one line of the log


def longest_life_s(timeouts: Iterable[Timeouts], drain_s: float, tries_s: float = TRIES_S) -> float:
    """How long an exchange that was last seen alive can go on by the configured timeouts. `tries_s`: the time in which
    its tries may begin.

    The last try begins at the last moment and uses every deadline up, then the answer begins and stalls, and its client
    hangs up. A stream that goes on has no such bound, nor has a client that reads slowly: the sweeper sees those alive.
    """
    longest = max(
        (tries_s + SENDS * (PLACE_S + each.connect_s + each.first_byte_s) + each.idle_s for each in timeouts),
        default=0.0,
    )
    return longest + drain_s + SLACK_S


class Sweeper:
    """Looks at a gate with its holds, accounts and intents."""

    def __init__(
        self, gate: Gate, holds: Holds, accounts: Accounts, *, recorder: Recorder, violations: Violations
    ) -> None:
        self._gate = gate
        self._holds = holds
        self._accounts = accounts
        self._recorder = recorder
        self._violations = violations

    def look(self) -> None:
        self._check_at_rest()
        overdrawn = self._accounts.overdrawn_holds()
        if overdrawn:
            self._violations.add("held_below_zero", overdrawn)
        swept = self._holds.sweep(self._gate.clock.monotonic(), alive=self._gate.request_ids())
        if swept:
            self._violations.add("hold_swept", len(swept), request_ids=swept[:MAX_NAMED])

    def _check_at_rest(self) -> None:
        """While nobody is inside, nothing is held, and no intent waits but for the disk."""
        if self._gate.in_flight:
            return
        held = self._accounts.held_nusd()
        if held:
            self._violations.add("held_at_rest", held_nusd=held)
        waiting = self._recorder.unsettled - self._recorder.refused
        if waiting > 0:
            self._violations.add("intent_at_rest", waiting)
