"""Compiles the hot path to machine code (docs/decisions/0013): `make compiled`, `make wheel`.

The source is the same either way. Without mypy or a C compiler the package is built as it is, and runs slower.
"""

import logging
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from itertools import chain
from pathlib import Path
from typing import Any

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import BaseError

log = logging.getLogger(__name__)

COMPILED = (
    "chat/counts",
    "gateway/*",
    "money/*",
    "outbox",
    "policy/*",
    "ports/traffic",
    "telemetry/lines",
    "telemetry/metrics",
    "upstream/*",
    "web/client_stream",
    "web/heads",
    "web/short_way",
    "wire/*",
    "wire/*/events",
    "wire/*/foreign_*",
    "wire/*/meter",
    "wire/*/passthrough",
    "wire/*/stream_writer",
    "wire/*/usage",
)
# What mypyc does not take: weak references to an object, an async generator, a parent that is built in.
LEFT = {"money/accounts", "money/disk", "money/writer"}
STRUCT = "(msgspec.Struct"  # nor these: it drops their arguments
PACKAGE = Path("trollproxy")
GENERATED = ".cache/generated"  # C


def modules() -> list[str]:
    found = {path for pattern in COMPILED for path in PACKAGE.glob(f"{pattern}.py") if path.stem != "__init__"}
    left = {PACKAGE / f"{name}.py" for name in LEFT}
    return sorted(str(path) for path in found - left if STRUCT not in path.read_text())


def extensions() -> list[Extension]:
    try:
        from mypyc.build import mypycify  # noqa: PLC0415 - it may be missing
    except ImportError:
        return []
    options = {"opt_level": "2", "debug_level": "0", "multi_file": True, "group_name": "trollproxy"}
    told = StringIO()  # it has remarks on code that is as it should be
    try:
        with redirect_stdout(told), redirect_stderr(told):
            return mypycify(["--config-file", "pyproject.toml", *modules()], target_dir=GENERATED, **options)
    except SystemExit:
        log.warning("trollproxy is not compiled, and runs slower:\n%s", told.getvalue())
        return []


class Build(build_ext):
    """Compiles on all cores, and goes without where there is no compiler."""

    def run(self) -> None:
        try:
            super().run()
        except BaseError as error:
            log.warning("trollproxy is not compiled, and runs slower: %s", error)
            self.extensions = []

    def build_extensions(self) -> None:
        compile_some = self.compiler.compile

        def compile_all(sources: list[str], **options: Any) -> list[str]:
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                return list(chain.from_iterable(pool.map(lambda one: compile_some([one], **options), sources)))

        self.compiler.compile = compile_all
        super().build_extensions()


if __name__ == "__main__":
    setup(ext_modules=extensions(), cmdclass={"build_ext": Build})
