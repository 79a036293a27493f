"""Providers that cost next to nothing: nginx for whole answers, source.c for streams; and nginx as the yardstick.

Both tell how much they were asked, so that an answer that a gateway made up, or kept, would show.
"""

import json
from collections.abc import Sequence
from http.client import HTTPConnection
from pathlib import Path

from tests.bench.asked import PIECE
from tests.bench.machine import LOAD_CORE
from tests.bench.processes import Nginx, Started, free_port, wait_for_port
from tests.integration.certificates import authority_of, make_certificate

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / ".cache" / "bench" / "source"
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"

ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "a" * 330}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 300, "completion_tokens": 80, "total_tokens": 380},
}
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "m",
    "content": [{"type": "text", "text": "a" * 330}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 300, "output_tokens": 80},
}


class JsonUpstream(Nginx):
    """Whole answers of either dialect, by path; over TLS if wished. Its status has a port of its own."""

    def __init__(self, folder: Path, *, is_tls: bool = False) -> None:
        self.status_port = free_port()
        port, name = free_port(), "tls" if is_tls else "json"
        self.authority = _certify(folder) if is_tls else None
        tls = f"ssl_certificate {folder}/localhost.pem; ssl_certificate_key {folder}/localhost.pem;" if is_tls else ""
        listen = f"listen 127.0.0.1:{port} backlog=4096{' ssl' if is_tls else ''};"
        servers = f"""server {{ {listen} {tls} default_type application/json;
location / {{ return 200 '{json.dumps(ANSWER)}'; }}
location /v1/messages {{ return 200 '{json.dumps(MESSAGE)}'; }}
location /v1/models {{ return 200 '{{"object":"list","data":[{{"id":"m","object":"model"}}]}}'; }} }}
server {{ listen 127.0.0.1:{self.status_port}; location / {{ stub_status; }} }}"""
        super().__init__(folder, LOAD_CORE, port=port, config=http_config(folder, name, servers))
        self._looks = 0

    @property
    def url(self) -> str:
        return f"{'https://localhost' if self.authority else 'http://127.0.0.1'}:{self.port}"

    def count(self) -> int:
        """Requests answered so far, without those that asked for the count."""
        self._looks += 1
        fields = ask(self.status_port, "GET", "/").splitlines()[2].split()
        return int(fields[2]) - self._looks


class StreamUpstream(Started):
    """The source of streams, a small program of ours."""

    def __init__(self, folder: Path) -> None:
        self.port, self.authority = free_port(), None
        frames = folder / "frames"
        frames.mkdir(exist_ok=True)
        write_frames(frames)
        super().__init__(folder, LOAD_CORE, str(SOURCE), str(self.port), str(frames))
        wait_for_port(self.port)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def count(self) -> int:
        """Streams begun so far."""
        return int(ask(self.port, "GET", "/count").split()[0])

    def deltas(self) -> int:
        return int(ask(self.port, "GET", "/count").split()[1])


Upstream = JsonUpstream | StreamUpstream


def nginx_proxy(folder: Path, core: int, *, upstream: Upstream) -> Nginx:
    """A plain reverse proxy with keep-alive on both sides, and no buffering, so that streams pass at once."""
    port = free_port()
    tls = f"proxy_ssl_verify on; proxy_ssl_trusted_certificate {upstream.authority}; proxy_ssl_name localhost;"
    scheme, trust = ("https", tls) if upstream.authority else ("http", "")
    servers = f"""upstream u {{ server 127.0.0.1:{upstream.port}; keepalive 1024; }}
server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ proxy_pass {scheme}://u; proxy_http_version 1.1;
proxy_set_header Connection ""; proxy_buffering off; proxy_request_buffering off; {trust} }} }}"""
    return Nginx(folder, core, port=port, config=http_config(folder, f"proxy-{port}", servers))


def http_config(folder: Path, name: str, servers: str) -> str:
    temporary = " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in ("proxy", "fastcgi", "uwsgi", "scgi"))
    return f"""daemon off; worker_processes 1; pid {folder}/{name}.pid; error_log {folder}/{name}.log;
events {{ worker_connections 8192; }}
http {{ access_log off; keepalive_requests 100000000; client_body_buffer_size 64k; client_body_temp_path {folder}/body;
ssl_protocols TLSv1.2 TLSv1.3; proxy_ssl_protocols TLSv1.2 TLSv1.3; {temporary}
{servers} }}
"""


def ask(port: int, method: str, path: str) -> str:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, path, headers={"connection": "close"})
    said = connection.getresponse().read().decode()
    connection.close()
    return said


def write_frames(folder: Path) -> None:
    """What streams consist of, as source.c reads it."""
    for dialect, parts in (("openai", openai_parts()), ("anthropic", _anthropic_parts())):
        for kind, events in parts.items():
            end = b"0\r\n\r\n" if kind == "last" else b""
            (folder / f"{dialect}.{kind}").write_bytes(framed(events) + end)


def framed(events: Sequence[bytes]) -> bytes:
    """Each event as a chunk of its own, ready to be written."""
    return b"".join(b"%x\r\n%b\r\n" % (len(event), event) for event in events)


def openai_parts() -> dict[str, list[bytes]]:
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}

    def chunk(delta: dict[str, str], finish: str | None = None) -> bytes:
        return _event({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})

    usage = _event({**head, "choices": [], "usage": ANSWER["usage"]})
    return {
        "first": [chunk({"role": "assistant", "content": "Yes"})],
        "delta": [chunk({"content": PIECE})],
        "last": [chunk({}, "stop"), usage, b"data: [DONE]\n\n"],
    }


def _anthropic_parts() -> dict[str, list[bytes]]:
    begun = {**MESSAGE, "content": [], "stop_reason": None, "usage": {"input_tokens": 300, "output_tokens": 1}}

    def delta(text: str) -> bytes:
        grown = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}
        return _event(grown, "content_block_delta")

    block = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    ended = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 80}}
    return {
        "first": [
            _event({"type": "message_start", "message": begun}, "message_start"),
            _event(block, "content_block_start"),
            delta("Yes"),
        ],
        "delta": [delta(PIECE)],
        "last": [
            _event({"type": "content_block_stop", "index": 0}, "content_block_stop"),
            _event(ended, "message_delta"),
            _event({"type": "message_stop"}, "message_stop"),
        ],
    }


def _event(content: object, name: str = "") -> bytes:
    line = f"event: {name}\n" if name else ""
    return f"{line}data: {json.dumps(content, separators=(',', ':'))}\n\n".encode()


def _certify(folder: Path) -> Path:
    return authority_of(make_certificate(folder))
