"""The audit on a timer: what it finds is in the metrics, so that a drift is noticed by a machine and not by a customer.

It reads through the store's own lane for audits and looks at nothing that a request waits for. An audit that fails is
tried again at its next time; until then the metrics show the last one that was completed, and when that was.
"""

import asyncio
import logging
from collections.abc import Callable

from trollproxy.control.audit import Audit, Pause, audit
from trollproxy.errors import GatewayError
from trollproxy.money.writer import Writer
from trollproxy.ports import Store
from trollproxy.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

FIRST_S = 10.0  # after a start: what an earlier run left is on the books by then
MAX_NAMED = 20  # differences in the log; `trollproxy audit` names them all


class Auditor:
    """One a process. `last` is the last audit that came to its end."""

    def __init__(
        self, store: Store, writer: Writer, *, wall: Callable[[], float], pause: Pause = asyncio.sleep
    ) -> None:
        self._store = store
        self._writer = writer
        self._wall = wall
        self._pause = pause
        self.last = Audit(users=0, balance_nusd=0, differences=())
        self.completed_at_s = 0.0

    async def run(self, interval_s: float) -> None:
        """Audit soon, and then at every interval."""
        await self._pause(min(FIRST_S, interval_s))
        while True:
            await self._try()
            await self._pause(interval_s)

    async def _try(self) -> None:
        try:
            await self.look()
        except GatewayError as error:
            log.warning("the audit did not come to its end", extra={"fields": {"reason": error.code}})
        except Exception:  # the outermost edge: whatever is wrong with an audit, requests go on
            log.exception("bug in the audit")

    async def look(self) -> None:
        await self._check_numbers()
        found = await audit(self._store, pause=self._pause)
        self.last, self.completed_at_s = found, self._wall()
        if found.ref_credits_below_zero:
            self._writer.violations.add("ref_credits_below_zero", found.ref_credits_below_zero)
        if found.differences:
            told = {f"{each.username} {each.wallet}": each.drift_nusd for each in found.differences[:MAX_NAMED]}
            fields = {"users": found.drifting_users, "drift_nusd": found.drift_nusd, "by_wallet": told}
            log.error("balances are not what the ledger says", extra={"fields": fields})

    async def _check_numbers(self) -> None:
        """What the store has confirmed stays on its ledger, unless somebody set it back beneath us."""
        confirmed = self._writer.last_on_ledger
        found = await self._store.read_last_seq(self._writer.journal_id)
        if found < confirmed:
            self._writer.violations.add("watermark_backwards", confirmed=confirmed, found=found)


def register_audit_gauges(metrics: Metrics, auditor: Auditor) -> None:
    metrics.gauge(
        "billing_drift_nusd",
        "Nano-dollars by which balances differ from the ledger, over all users.",
        lambda: auditor.last.drift_nusd,
    )
    metrics.gauge(
        "billing_drift_users", "Users whose balance differs from the ledger.", lambda: auditor.last.drifting_users
    )
    metrics.gauge(
        "billing_audit_timestamp_seconds", "When the last audit was completed.", lambda: auditor.completed_at_s
    )
