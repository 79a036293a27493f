"""The demo provider on a socket: performs `demo_script`, for a newcomer's first minute and for tests.

Owns the listening socket, the timing of pieces and the record of what arrived. Invariants: it listens on the loopback
only, it remembers a bounded amount, and `close` ends every connection, also those that hang by script. It must not know
the gateway, nor decide what is said.

    provider = DemoProvider()
    port = await provider.start()
    ...
    await provider.close()
"""

import asyncio
import hmac
from collections import Counter, deque

import msgspec
from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import RequestHandler

from trollproxy.chat import FormatName
from trollproxy.web import demo_script
from trollproxy.web.demo_script import Piece, Script

MAX_BODY = 32 * 1024 * 1024  # Anthropic's own limit
MAX_REQUESTS_KEPT = 1_000
MAX_BODY_KEPT = 64 * 1024  # of a thousand requests: 64 MB
SHUTDOWN_TIMEOUT_S = 0.1  # a script that hangs will not end by itself

COMPLETIONS: dict[str, FormatName] = {"/v1/chat/completions": "openai_chat", "/v1/messages": "anthropic"}
COUNT_TOKENS = "/v1/messages/count_tokens"
MODELS = "/v1/models"
PATHS = frozenset((*COMPLETIONS, COUNT_TOKENS, MODELS))


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """A request as it arrived. Header names are in lower case; `body` is cut at 64 kB, `size` is not."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes
    size: int


class DemoProvider:
    """With `api_key`, requests must carry it as a bearer token or as `x-api-key`; without, it is open."""

    def __init__(self, *, port: int = 0, api_key: str | None = None) -> None:
        self.seen: Counter[str] = Counter()  # by path; unknown ones are counted as "other"
        self.requests: deque[Seen] = deque(maxlen=MAX_REQUESTS_KEPT)
        self._port = port
        self._api_key = api_key
        self._protocols: web.Server | None = None
        self._socket: asyncio.Server | None = None

    async def start(self) -> int:
        """Listen, and return the port."""
        loop = asyncio.get_running_loop()
        self._protocols = web.Server(self._answer, request_factory=_request, handler_cancellation=True, access_log=None)
        self._socket = await loop.create_server(self._protocols, "127.0.0.1", self._port)
        self._port = int(self._socket.sockets[0].getsockname()[1])
        return self._port

    async def close(self) -> None:
        """Stop listening and drop every connection. Safe to call twice."""
        listening, self._socket = self._socket, None
        if listening is None or self._protocols is None:
            return
        listening.close()
        await self._protocols.shutdown(SHUTDOWN_TIMEOUT_S)
        await listening.wait_closed()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        self._remember(request, body)
        return await self._perform(request, self._choose(request, body))

    def _remember(self, request: web.BaseRequest, body: bytes) -> None:
        self.seen[request.path if request.path in PATHS else "other"] += 1
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.requests.append(
            Seen(
                method=request.method,
                path=request.path,
                query=request.query_string,
                headers=headers,
                body=body[:MAX_BODY_KEPT],
                size=len(body),
            )
        )

    def _choose(self, request: web.BaseRequest, body: bytes) -> Script:
        path = request.path
        is_anthropic = path in {"/v1/messages", COUNT_TOKENS} or "anthropic-version" in request.headers
        dialect: FormatName = "anthropic" if is_anthropic else "openai_chat"
        if path not in PATHS:
            return demo_script.refuse(dialect, 404, "The demo provider has no such route.")
        if request.method != ("GET" if path == MODELS else "POST"):
            return demo_script.refuse(dialect, 405, "The demo provider does not know this method here.")
        if not self._admits(request):
            return demo_script.refuse(dialect, 401, "The demo provider does not know this key.")
        if path == MODELS:
            return demo_script.models(dialect)
        return demo_script.count(body) if path == COUNT_TOKENS else demo_script.play(COMPLETIONS[path], body)

    def _admits(self, request: web.BaseRequest) -> bool:
        if self._api_key is None:
            return True
        bearer = request.headers.get("Authorization", "").removeprefix("Bearer ")
        shown = request.headers.get("x-api-key") or bearer
        return hmac.compare_digest(shown.encode(errors="replace"), self._api_key.encode())

    async def _perform(self, request: web.BaseRequest, script: Script) -> web.StreamResponse:
        response = web.StreamResponse(status=script.status, headers=dict(script.headers))
        response.headers["Content-Type"] = script.content_type
        number = f"req_demo{self.seen.total()}"
        response.headers.update({"x-request-id": number, "request-id": number})
        if not script.is_stream:
            response.content_length = len(script.body)
        for piece in script.pieces:
            if not await self._send(request, response, piece):
                break
        return response

    async def _send(self, request: web.BaseRequest, response: web.StreamResponse, piece: Piece) -> bool:
        if piece.delay_s:
            await asyncio.sleep(piece.delay_s)
        if piece.action == "hang":
            await asyncio.Event().wait()  # ended by the client's leaving or by `close`, which cancel this request
        if piece.action == "cut":
            await _cut(request)
            return False
        if not response.prepared:
            await response.prepare(request)
        await response.write(piece.data)
        return True


def _request(
    message: RawRequestMessage,
    payload: StreamReader,
    protocol: RequestHandler,
    writer: AbstractStreamWriter,
    task: "asyncio.Task[None]",
) -> web.BaseRequest:
    """What the server does by itself, but for the size of the body."""
    loop = asyncio.get_running_loop()
    return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=MAX_BODY)


async def _cut(request: web.BaseRequest) -> None:
    """Drop the connection once what was sent has left the process: `abort` throws away what has not."""
    transport = request.transport
    if transport is None:
        return
    while transport.get_write_buffer_size() and not transport.is_closing():  # noqa: ASYNC110 - nothing announces it
        await asyncio.sleep(0)
    transport.abort()
