"""What the benchmark's commands take, and what they need of the machine."""

import argparse
import shutil
import sys

from tests.bench.upstreams import ROOT, SOURCE


class Options(argparse.Namespace):
    rounds: int
    seconds: float
    write: bool


def read_options(about: str | None, *, rounds: int, seconds: float) -> Options:
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--seconds", type=float, default=seconds, help="of each measure under load")
    parser.add_argument("--write", action="store_true", help="put the figures into docs/")
    require("nginx", "wrk")
    if not SOURCE.is_file():
        sys.exit(f"The source of streams is not built: make {SOURCE.relative_to(ROOT)}")
    return parser.parse_args(namespace=Options())


def require(*programs: str) -> None:
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        sys.exit(f"This needs {' and '.join(missing)}: apt-get install {' '.join(missing)}")
