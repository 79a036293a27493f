"""The money core as a state machine: any order of requests, crashes and store faults, against a model of plain sums.

Journal, recorder, writer, accounts and the start are the real ones, started and recovered by the real `Gateway`; the
store keeps the contract and breaks as stores do. FAULTS_DEEP=1 runs it long; a failure prints how to replay it.
"""

import os
from contextlib import suppress

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from tests.faults.crashing import MODEL, intent_of
from tests.faults.model import FAULTS, Fault, Running, used_nusd
from tests.faults.money_house import FRIEND_LIMIT_NUSD, NAMES, WALLETS, MoneyHouse
from trollproxy.chat import Usage
from trollproxy.errors import InsufficientCredits, StoreUnavailable
from trollproxy.money import writer as writer_module
from trollproxy.money.holds import check_friend, hold
from trollproxy.money.settle import Ending, Seen, charge_for
from trollproxy.policy.limits import utc_day
from trollproxy.records import EndedBy, ModelLimit, Progress, User

DEEP = bool(os.environ.get("FAULTS_DEEP"))
SOON_S = 10.0
FREE: dict[EndedBy, bool] = {
    "completed": False,
    "client_disconnected": False,
    "provider_error_before_token": True,
    "provider_error_mid_stream": False,
    "timeout_before_token": True,
    "timeout_mid_stream": False,
    "empty_reply": False,
}
PICK = st.integers(0, 7)
SEEN = st.tuples(st.integers(0, 240), st.none() | st.integers(0, 60), st.booleans())
ENDED_BY = st.sampled_from(sorted(FREE))


class Wanted(msgspec.Struct, frozen=True):
    """A request, as far as it goes before something else happens: held, intended, in progress or charged."""

    number: int
    amount: int
    is_friends: bool
    input_bytes: int
    seen: tuple[int, int | None, bool]
    ended_by: EndedBy
    stages: int


WANTED = st.builds(
    Wanted,
    number=PICK,
    amount=st.integers(0, 60),
    is_friends=st.booleans(),
    input_bytes=st.integers(0, 240),
    seen=SEEN,
    ended_by=ENDED_BY,
    stages=st.integers(0, 3),
)


class Money(MoneyHouse):
    """The rules; they pick among the requests that run."""

    @initialize(amounts=st.lists(st.integers(60, 600), min_size=4, max_size=4))
    def begin(self, amounts: list[int]) -> None:
        for name in NAMES:
            self.store.users[name] = User(username=name)
        for account, amount in zip(((n, w) for n in NAMES for w in WALLETS), amounts, strict=True):
            self.give(account, amount)
        self.snapshots.append(self.store.snapshot())
        self.start()

    def pick(self, number: int, *, is_intended: bool) -> tuple[str, Running]:
        found = [(name, run) for name, run in self.model.running.items() if run.is_intended == is_intended]
        return found[number % len(found)]

    # What requests do

    @rule(wanted=st.lists(WANTED, min_size=1, max_size=4))
    def ask(self, wanted: list[Wanted]) -> None:
        """All in one turn of the loop."""
        for one in wanted:
            self.play(one)
        self.end_turn()

    @rule(wanted=WANTED)
    def ask_once(self, wanted: Wanted) -> None:
        self.play(wanted)
        self.end_turn()

    def end_turn(self) -> None:
        assert self.gateway.outbox.flush() is None

    def play(self, wanted: Wanted) -> None:
        request_id = self.hold(wanted)
        if request_id is None or wanted.stages == 0:
            return
        self.put_intent(request_id, wanted.input_bytes)
        if wanted.stages > 1:
            self.put_progress(request_id, wanted.seen)
        if wanted.stages > 2:
            self.put_charge(request_id, wanted.seen, wanted.ended_by)

    def hold(self, wanted: Wanted) -> str | None:
        """Its id, if it was admitted."""
        account, amount = (NAMES[wanted.number % 2], WALLETS[wanted.number // 2 % 2]), wanted.amount
        day, free = utc_day(self.wall_s), self.model.balance(account) - self.model.held(account)
        try:
            if wanted.is_friends:
                self.lent.roll(day)
                limit = ModelLimit(daily_limit_nusd=FRIEND_LIMIT_NUSD)
                check_friend(self.lent, MODEL, limit, amount_nusd=amount)
            held = hold(self.accounts[account[0]], account[1], amount, now_s=self.wall_s)
        except InsufficientCredits:
            return None
        assert amount == 0 or free >= amount
        self.requests += 1
        request_id = f"r{self.requests}"
        if wanted.is_friends:
            held.bind(self.lent, MODEL)
        self.holds[request_id] = held
        self.model.running[request_id] = Running(account, amount, day, wanted.is_friends)
        return request_id

    @precondition(lambda self: any(not run.is_intended for run in self.model.running.values()))
    @rule(number=PICK)
    def release(self, number: int) -> None:
        request_id, _ = self.pick(number, is_intended=False)
        del self.model.running[request_id]
        held = self.holds.pop(request_id)
        assert held.release()
        assert not held.release()

    @precondition(lambda self: any(not run.is_intended for run in self.model.running.values()))
    @rule(number=PICK, input_bytes=st.integers(0, 240))
    def intend(self, number: int, input_bytes: int) -> None:
        self.put_intent(self.pick(number, is_intended=False)[0], input_bytes)
        self.end_turn()

    def put_intent(self, request_id: str, input_bytes: int) -> None:
        run = self.model.running[request_id]
        run.input_bytes = min(input_bytes, 4 * run.hold_nusd)
        self.gateway.recorder.intend(intent_of(request_id, run))
        run.number = self.gateway.journal.next - 1

    def fitting(self, run: Running, seen: tuple[int, int | None, bool]) -> tuple[int, int | None, bool]:
        """What is used stays within the hold, as it does where the estimate was from above."""
        output_bytes, usage, is_final = seen
        left = run.hold_nusd - -(-run.input_bytes // 4)
        output_bytes = min(output_bytes, 4 * left)
        if usage is None:
            return output_bytes, None, is_final
        return output_bytes, min(usage, run.hold_nusd if is_final else run.hold_nusd - -(-output_bytes // 4)), is_final

    @precondition(lambda self: any(run.is_intended for run in self.model.running.values()))
    @rule(number=PICK, seen=SEEN)
    def progress(self, number: int, seen: tuple[int, int | None, bool]) -> None:
        self.put_progress(self.pick(number, is_intended=True)[0], seen)
        self.end_turn()

    def put_progress(self, request_id: str, seen: tuple[int, int | None, bool]) -> None:
        run = self.model.running[request_id]
        run.progress = output_bytes, usage, is_final = self.fitting(run, seen)
        said = Usage(uncached=usage) if usage is not None else None
        self.gateway.recorder.progress(
            Progress(request_id=request_id, usage=said, is_usage_final=is_final, output_bytes=output_bytes)
        )

    @precondition(lambda self: any(run.is_intended for run in self.model.running.values()))
    @rule(number=PICK, seen=SEEN, ended_by=ENDED_BY)
    def charge(self, number: int, seen: tuple[int, int | None, bool], ended_by: EndedBy) -> None:
        self.put_charge(self.pick(number, is_intended=True)[0], seen, ended_by)
        self.end_turn()

    def put_charge(self, request_id: str, seen: tuple[int, int | None, bool], ended_by: EndedBy) -> None:
        run = self.model.running[request_id]
        output_bytes, usage, is_final = seen = self.fitting(run, seen)
        cost = 0 if FREE[ended_by] else used_nusd(run.input_bytes, seen)
        made = charge_for(
            intent_of(request_id, run),
            Seen(
                usage=Usage(uncached=usage) if usage is not None else None,
                is_final=is_final,
                input_bytes=run.input_bytes,
                output_bytes=output_bytes,
            ),
            Ending(ended_by, 200, "ok"),
        )
        assert made.cost_nusd == cost
        self.holds.pop(request_id).settle(made.cost_nusd)
        self.gateway.recorder.record(made)
        self.numbers.append(self.gateway.journal.next - 1)
        self.model.charge(request_id, cost)

    # What the store does

    @rule(number=PICK, amount=st.integers(1, 200))
    def top_up(self, number: int, amount: int) -> None:
        self.give((NAMES[number % 2], WALLETS[number // 2 % 2]), amount)

    @precondition(lambda self: not self.store.is_down)
    @rule()
    def flush(self) -> None:
        self.runner.run(self.gateway.writer.flush(SOON_S))
        assert self.model.charges.keys() == self.store.kept.charges.keys()
        assert self.gateway.writer.queued == 0

    @rule(fault=st.sampled_from(FAULTS))
    def flush_once_and_fail(self, fault: Fault) -> None:
        self.store.fault = fault
        with suppress(StoreUnavailable):
            self.runner.run(self.gateway.writer._flush_once())
        self.store.fault = None

    @rule()
    def deliver_late(self) -> None:
        self.store.deliver_late()

    @rule(is_down=st.booleans())
    def outage(self, *, is_down: bool) -> None:
        self.store.is_down = is_down

    @precondition(lambda self: not self.store.is_down)
    @rule()
    def refresh(self) -> None:
        self.runner.run(self.load())

    @precondition(lambda self: not self.store.is_down)
    @rule()
    def take_backup(self) -> None:
        if self.store.late == [] and all(map(self.store.is_drawn, self.store.kept.charges.values())):
            self.snapshots.append(self.store.snapshot())

    # What happens to the process

    @precondition(lambda self: not self.store.is_down)
    @rule(torn=st.binary(max_size=20))
    def crash_and_recover(self, torn: bytes) -> None:
        self.die(torn)
        self.start()
        self.check_recovered()

    @precondition(lambda self: not self.store.is_down)
    @rule()
    def stop_and_start(self) -> None:
        """An orderly end, after which the journal knows exactly what the store has."""
        self.stop()
        self.start()
        self.check_recovered()

    def stop(self) -> None:
        for request_id, run in list(self.model.running.items()):
            if run.is_intended:
                self.put_charge(request_id, (0, None, False), "timeout_before_token")
            else:
                assert self.holds.pop(request_id).release()
                del self.model.running[request_id]
        assert self.gateway.accounts.held_nusd() == 0
        self.runner.run(self.gateway.drain())

    @precondition(lambda self: not self.store.is_down)
    @rule(number=PICK, is_orderly=st.booleans())
    def set_the_store_back(self, number: int, *, is_orderly: bool) -> None:
        """A backup is restored while the gateway is down."""
        if is_orderly:
            self.stop()
        else:
            self.die(b"")
        self.store.restore(self.snapshots[number % len(self.snapshots)])
        self.model.given = dict(self.store.kept.given)
        self.was_set_back = True
        self.start()
        self.check_recovered()
        self.snapshots = [self.store.snapshot()]

    @rule()
    def sync(self) -> None:
        assert self.gateway.journal.sync()

    @rule(hours=st.integers(-30, 30))
    def clock_jumps(self, hours: int) -> None:
        self.wall_s += hours * 3600
        self.has_gone_back = self.has_gone_back or hours < 0

    @rule(records=st.integers(1, 6))
    def rebatch(self, records: int) -> None:
        writer_module.MAX_RECORDS = records


TestMoney = Money.TestCase
TestMoney.settings = settings(
    max_examples=2000 if DEEP else 60,
    stateful_step_count=80 if DEEP else 40,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
