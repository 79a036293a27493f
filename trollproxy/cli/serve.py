"""Running the gateway: its start, its signals, its end.

The first SIGTERM or SIGINT drains, a second ends at once; SIGHUP reloads. Exit code 0 after a drain, 1 when a part that
must not end has ended, so that systemd starts the gateway anew.
"""

import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable

from trollproxy.app import Gateway
from trollproxy.config import ConfigError, Settings
from trollproxy.control.first_start import greeting, welcome
from trollproxy.errors import GatewayError, InvalidRequest
from trollproxy.telemetry.logs import configure
from trollproxy.web.demo import DemoProvider

log = logging.getLogger(__name__)

# Requests leave no cycles. With Python's own 700 the collector looks 50 times a second in vain at whatever is under
# way; so many are looked at in a fifth of a millisecond, and what a rare cycle keeps till then is a few megabytes.
YOUNG_OBJECTS = 10_000
_ENDED_AT_ONCE = 130  # what shells call a program that was interrupted


async def serve(settings: Settings, *, read_settings: Callable[[], Settings]) -> int:
    logs = configure(level=settings.log_level, format=settings.log.format, stream=sys.stderr)
    try:
        gateway = Gateway(settings, read_settings=_for_reload(read_settings), logs=logs)
        logs_dropped(gateway, lambda: logs.dropped)
        return await _run(gateway, settings)
    finally:
        logs.shutdown()


async def mock(port: int) -> int:
    """The scripted provider alone."""
    provider = DemoProvider(port=port)
    bound = await provider.start()
    print(f"The scripted provider answers on http://127.0.0.1:{bound}/v1 until Ctrl-C.", flush=True)
    await _signalled()
    await provider.close()
    return 0


async def _run(gateway: Gateway, settings: Settings) -> int:
    stop = asyncio.ensure_future(_signalled())
    is_ready = asyncio.Event()
    _reload_on_hangup(gateway, is_ready)
    try:
        await gateway.open()
        found = await welcome(gateway.store, gateway.office(), wallets=gateway.wallets, random_bytes=os.urandom)
        await gateway.listen()
        gc.collect()
        gc.freeze()  # what was loaded stays for good: the collector would hold up requests by looking at it again
        gc.set_threshold(YOUNG_OBJECTS, 10, 10)
    except BaseException:
        stop.cancel()
        await gateway.close()
        raise
    url = f"http://localhost:{gateway.ports[0]}"
    if found is not None:
        print(greeting(found, url=url, model="demo"), flush=True)
    print(f"trollproxy listens on {', '.join(f'{settings.host}:{port}' for port in gateway.ports)}", flush=True)
    is_ready.set()
    failure = asyncio.ensure_future(gateway.wait_for_failure())
    await asyncio.wait((stop, failure), return_when=asyncio.FIRST_COMPLETED)
    is_failed = failure.done()
    failure.cancel()
    log.info("draining")
    await gateway.drain()
    return 1 if is_failed else 0


async def _signalled() -> None:
    """Wait for the first signal to end. The second does not wait for anything."""
    loop, first = asyncio.get_running_loop(), asyncio.Event()

    def on_signal() -> None:
        if first.is_set():
            os._exit(_ENDED_AT_ONCE)
        first.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    await first.wait()


def _reload_on_hangup(gateway: Gateway, is_ready: asyncio.Event) -> None:
    """From the first moment on, since an unhandled SIGHUP ends a process; what comes too early waits."""
    loop = asyncio.get_running_loop()
    reloads: set[asyncio.Task[None]] = set()

    async def reload() -> None:
        await is_ready.wait()
        try:
            await gateway.reload()
        except GatewayError as error:
            log.error("not reloaded", extra={"fields": {"reason": error.message}})  # noqa: TRY400 - the reason is all

    def on_hangup() -> None:
        task = loop.create_task(reload())
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    loop.add_signal_handler(signal.SIGHUP, on_hangup)


def logs_dropped(gateway: Gateway, dropped: Callable[[], int]) -> None:
    gateway.metrics.gauge("log_records_dropped", "Log lines lost because the log could not keep up.", dropped)


def _for_reload(read_settings: Callable[[], Settings]) -> Callable[[], Settings]:
    """A bad file at a reload is the administrator's to mend, and no reason to end."""

    def read() -> Settings:
        try:
            return read_settings()
        except ConfigError as error:
            raise InvalidRequest(str(error), code="bad_configuration") from error

    return read
