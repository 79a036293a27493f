"""The endpoints for those who run the gateway: health, metrics, the key pools, reload."""

from collections.abc import Awaitable, Callable

from aiohttp import web

from trollproxy import __version__
from trollproxy.errors import Forbidden, GatewayError
from trollproxy.gateway.callers import Callers
from trollproxy.gateway.gate import Gate
from trollproxy.gateway.key_status import KeyStatus
from trollproxy.money.journal import Journal
from trollproxy.money.writer import Writer
from trollproxy.ports import Store
from trollproxy.telemetry.metrics import CONTENT_TYPE, Metrics
from trollproxy.web.llm import authenticate
from trollproxy.web.peers import TrustedNetworks
from trollproxy.web.replies import error_reply, json_reply


class HealthRoutes:
    """For load balancers and people in a hurry; open to all, discloses nothing but up or down."""

    def __init__(self, *, store: Store, writer: Writer, journal: Journal, gate: Gate) -> None:
        self._store = store
        self._journal = journal
        self._writer = writer
        self._gate = gate

    async def ping(self, _request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(text="OK\n")

    async def health(self, _request: web.BaseRequest) -> web.StreamResponse:
        """200 while requests can be taken and charged to a store that answers, else 503 with what is amiss."""
        store = "ok"
        try:
            await self._store.ping()
        except GatewayError as error:
            store = error.code
        journal = "broken" if self._journal.is_broken else "ok"
        is_healthy = store == journal == "ok" and not self._gate.is_draining
        status = "ok" if is_healthy else "draining" if self._gate.is_draining else "degraded"
        body = {
            "status": status,
            "version": __version__,
            "store": store,
            "journal": journal,
            "charges_queued": self._writer.queued,
        }
        return json_reply(body, status=200 if is_healthy else 503)


class AdminRoutes:
    """For administrators: an admin's own key, or the environment's. Metrics also for a scraper on this machine."""

    def __init__(
        self,
        *,
        callers: Callers,
        gate: Gate,
        keys: KeyStatus,
        metrics: Metrics,
        trusted: TrustedNetworks,
        reload: Callable[[], Awaitable[None]],
    ) -> None:
        self._callers = callers
        self._gate = gate
        self._keys = keys
        self._metrics = metrics
        self._local = trusted
        self._reload = reload

    async def metrics(self, request: web.BaseRequest) -> web.StreamResponse:
        # A request that a proxy passed on comes from anywhere, whatever address the proxy has.
        is_local = self._local.holds(request.remote or "") and "X-Forwarded-For" not in request.headers
        if not is_local and (refusal := await self._refuse(request)) is not None:
            return refusal
        return web.Response(body=self._metrics.render(), headers={"Content-Type": CONTENT_TYPE})

    async def keys_status(self, request: web.BaseRequest) -> web.StreamResponse:
        if (refusal := await self._refuse(request)) is not None:
            return refusal
        return json_reply(self._keys.shown(self._gate.clock.monotonic()))

    async def reload(self, request: web.BaseRequest) -> web.StreamResponse:
        """Read the configuration and the callers in memory anew. A bad configuration changes nothing."""
        if (refusal := await self._refuse(request)) is not None:
            return refusal
        try:
            await self._reload()
        except GatewayError as error:
            return error_reply(error, request)
        return json_reply({"status": "reloaded"})

    async def _refuse(self, request: web.BaseRequest) -> web.StreamResponse | None:
        try:
            caller = await authenticate(request, self._callers, self._gate)
            if not caller.is_admin:
                raise Forbidden("This needs an administrator's key.")
        except GatewayError as error:
            return error_reply(error, request)
        return None
