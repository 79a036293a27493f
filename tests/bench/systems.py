"""What is measured, and how it is asked: nginx as the yardstick, trollproxy, other gateways."""

import signal
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Protocol, Self

import msgspec

from tests.bench import asked
from tests.bench.asked import FEW_HEADERS, SDK_HEADERS, Dialect, Pattern
from tests.bench.machine import GATEWAY_CORE, pin, rss_kb
from tests.bench.processes import READY_WITHIN_S
from tests.e2e.process import GatewayProcess

CREDIT_USD = 9_000_000  # nobody runs dry in a benchmark


@dataclass(frozen=True)
class System:
    """Something that takes requests on a port, and in whose words it is asked."""

    name: str
    port: int
    pid: int
    dialect: Dialect = "openai"
    model: str = "m"
    headers: Mapping[str, str] = field(default_factory=dict)  # that it needs beside those of every client
    rest_kb: int = 0  # its memory before anything was asked
    strays: int = 0  # requests of its own that it may send to the provider meanwhile

    @property
    def path(self) -> str:
        return asked.PATHS[self.dialect]

    def speaking(self, dialect: Dialect, model: str, name: str) -> "System":
        return replace(self, dialect=dialect, model=model, name=name)

    def rested(self) -> "System":
        return replace(self, rest_kb=rss_kb(self.pid))

    def named_headers(self, *, is_sdk: bool = False) -> dict[str, str]:
        return {**(SDK_HEADERS if is_sdk else FEW_HEADERS), **self.headers}

    def body(self, pattern: Pattern | None = None) -> bytes:
        return asked.body(self.dialect, self.model, pattern)

    def request(self, pattern: Pattern | None = None, *, is_sdk: bool = False) -> bytes:
        return asked.request(self.path, self.named_headers(is_sdk=is_sdk), self.body(pattern))


class Provider(Protocol):
    """What the gateway must know of whom it asks."""

    @property
    def url(self) -> str: ...

    @property
    def authority(self) -> Path | None: ...


class Size(msgspec.Struct, frozen=True):
    """How much the gateway's configuration holds beside what is asked for."""

    models: int = 1
    upstream_keys: int = 1


def configuration(upstream: str, size: Size) -> dict[str, Any]:
    """Model `m` speaks OpenAI's format, model `a` Anthropic's."""
    keys = [f"upstream-key-{number:06d}" for number in range(size.upstream_keys)]
    pricing = {"input": 1, "output": 4}
    more = [{"id": f"model-{number}", "upstream": "o", "pricing": pricing} for number in range(size.models - 1)]
    return {
        "limits": {"proRpm": 10_000_000, "devRpm": 10_000_000},
        "upstreams": {
            "o": {"baseUrl": upstream, "formats": ["openai"], "keys": keys},
            "a": {"baseUrl": upstream, "formats": ["anthropic"], "keys": keys},
        },
        "models": [
            {"id": "m", "upstream": "o", "pricing": pricing},
            {"id": "a", "upstream": "a", "pricing": pricing},
            *more,
        ],
        "demo": False,
    }


class Trollproxy(GatewayProcess):
    """The gateway as it is by default: SQLite, journal, limits, holds, metrics and its log."""

    def __init__(self, folder: Path, *, upstream: Provider, size: Size | None = None, core: int = GATEWAY_CORE) -> None:
        trust = {"SSL_CERT_FILE": str(upstream.authority)} if upstream.authority else {}
        same = {"PYTHONHASHSEED": "0"}  # else each process lays its tables out in its own way, up to a tenth dearer
        super().__init__(folder, config=configuration(upstream.url, size or Size()), environment=trust | same)
        self._core = core

    def start(self) -> Self:
        super().start()
        pin(self.pid, self._core)
        self.command("user-credit", "admin", str(CREDIT_USD), "--wallet", "legacy")
        self.signal(signal.SIGHUP)  # it learns of the money at once
        self.system = System("trollproxy", self.port, self.pid, headers={"authorization": f"Bearer {self.key}"})
        return self

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid


def ask_once(system: System, pattern: Pattern | None = None) -> tuple[int, bytes]:
    """One request, as the load will send them."""
    connection = HTTPConnection("127.0.0.1", system.port, timeout=READY_WITHIN_S)
    connection.request("POST", system.path, system.body(pattern), system.named_headers())
    response = connection.getresponse()
    answered = response.status, response.read()
    connection.close()
    return answered
