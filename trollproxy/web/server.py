"""aiohttp wiring: which path goes to which handler, and the listening sockets. No router, no middleware."""

import asyncio
import logging
from collections.abc import Mapping

from aiohttp import http_parser, web

from trollproxy.errors import GatewayError, MethodNotAllowed, NotFound
from trollproxy.web.connection import ConnectionLimits, Handle, LimitedServer
from trollproxy.web.llm import LlmRoutes, ModelRoutes
from trollproxy.web.ops import AdminRoutes, HealthRoutes
from trollproxy.web.peers import TrustedNetworks
from trollproxy.web.receipts import ReceiptRoutes
from trollproxy.web.replies import error_reply
from trollproxy.web.short_way import Known

log = logging.getLogger(__name__)

Table = Mapping[str, Mapping[str, Handle]]  # path -> method -> handler

_BACKLOG = 4096  # a burst of clients at a restart; the kernel caps it at net.core.somaxconn
_WITH_ID = ("/v1/models/", "/v1beta/models/", "/v1/receipts/")  # the rest of such a path is an id


def build_table(
    *, llm: LlmRoutes, models: ModelRoutes, receipts: ReceiptRoutes, health: HealthRoutes, admin: AdminRoutes
) -> Table:
    """Every endpoint there is. docs/endpoints.md describes each."""
    return {
        "/v1/chat/completions": {"POST": llm.chat},
        "/chat/completions": {"POST": llm.chat},
        "/v1/responses": {"POST": llm.responses},
        "/responses": {"POST": llm.responses},
        "/v1/responses/input_tokens": {"POST": llm.response_tokens},
        "/v1/generate": {"POST": llm.generate},
        "/v1/messages": {"POST": llm.messages},
        "/v1/messages/count_tokens": {"POST": llm.count_tokens},
        "/v1/models": {"GET": models.list},
        "/models": {"GET": models.list},
        "/v1/models/": {"GET": models.retrieve, "POST": llm.gemini},
        "/v1beta/models": {"GET": models.list},
        "/v1beta/models/": {"GET": models.retrieve, "POST": llm.gemini},
        "/v1/receipts/": {"GET": receipts.retrieve},
        "/ping": {"GET": health.ping},
        "/health": {"GET": health.health},
        "/metrics": {"GET": admin.metrics},
        "/keys/status": {"GET": admin.keys_status},
        "/reload": {"POST": admin.reload},
    }


def dispatcher(table: Table) -> Handle:
    """One handler that picks by path and method."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        path = request.path
        methods = table.get(path)
        if methods is None:
            prefix = next((prefix for prefix in _WITH_ID if path.startswith(prefix)), "")
            methods = table.get(prefix)
        if methods is None:
            return error_reply(NotFound(f"There is nothing at {path[:200]!r}."), request)
        found = methods.get(request.method)
        return await found(request) if found is not None else _wrong_method(request, methods)

    return handle


def _wrong_method(request: web.BaseRequest, methods: Mapping[str, Handle]) -> web.StreamResponse:
    allowed = ", ".join(methods)
    error: GatewayError = MethodNotAllowed(f"Use {allowed} here, not {request.method[:20]}.")
    response = error_reply(error, request)
    response.headers["Allow"] = allowed
    return response


def require_c_parser() -> None:
    """The pure Python parser is slow and was the source of request-smuggling bugs; do not start on it."""
    if http_parser.HttpRequestParser is http_parser.HttpRequestParserPy:
        raise RuntimeError("aiohttp runs without its C parser: install a wheel with the extension, not a bare source.")


class Listening:
    """One open listener."""

    def __init__(self, handle: Handle, limits: ConnectionLimits, trusted: TrustedNetworks, *, known: Known) -> None:
        self.server = LimitedServer(handle, limits, trusted, known=known)
        self._sockets: asyncio.Server | None = None
        self._sweep: asyncio.Task[None] | None = None

    async def open(self, host: str, port: int) -> int:
        """Listen; the port that was bound."""
        loop = asyncio.get_running_loop()
        self._sockets = await loop.create_server(self.server, host, port, backlog=_BACKLOG, reuse_address=True)
        self._sweep = loop.create_task(self.server.sweep())
        bound: int = self._sockets.sockets[0].getsockname()[1]
        return bound

    def stop_accepting(self) -> None:
        """Take no new connections and close those on which nothing runs."""
        if self._sockets is not None:
            self._sockets.close()
        self.server.close_idle()

    async def close(self, deadline_s: float) -> None:
        """Cut what is still running after the deadline."""
        self.stop_accepting()
        await self.server.shutdown(deadline_s)
        if self._sweep is not None:
            self._sweep.cancel()
