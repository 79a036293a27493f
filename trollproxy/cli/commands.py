"""What can be typed: serve, check, init, mock, users, keys. Each command is a line in this file and a function.

Exit codes: 0 done, 1 failed (the reason is on stderr), 2 typed wrongly (argparse's own).
"""

import argparse
import json
import os
import sys
from collections.abc import Callable

import uvloop

from trollproxy import __version__, outbox
from trollproxy.cli import people
from trollproxy.cli.serve import mock, serve
from trollproxy.config import ConfigError, Settings, build_catalog, load, pick_path
from trollproxy.errors import GatewayError
from trollproxy.store.data_dir import DamagedError, DataDirBusyError

Command = Callable[[argparse.Namespace], int]

_OVERRIDES = ("host", "port", "debug", "demo", "data_dir", "mongodb_uri", "log_format", "log_level")

_TEMPLATE = """\
# trollproxy configuration; docs/configuration.md explains every setting.
port: ${PORT:-8080}
# mongodbUri: ${MONGODB_URI}        # without it, SQLite in ./data
upstreams:
  openai:
    baseUrl: https://api.openai.com
    type: openai
    apiKey: ${OPENAI_API_KEY}
models:
  - id: gpt-5-mini
    upstream: openai
    pricing: {input: 0.25, output: 2.0, cacheHit: 0.025}
    billingMultiplier: 1.05
"""


def main(arguments: list[str] | None = None) -> None:
    """Run one command and exit."""
    options = build_parser().parse_args(arguments)
    try:
        sys.exit(options.run(options))
    except (ConfigError, DataDirBusyError, DamagedError, OSError) as error:
        sys.exit(f"trollproxy: {error}")
    except GatewayError as error:
        sys.exit(f"trollproxy: {error.message}")


def _version() -> str:
    how = "" if outbox.__file__.endswith(".py") else " (compiled)"
    return f"trollproxy {__version__}{how}"


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="trollproxy", description="An LLM gateway that gets the bill right.")
    parser.add_argument("--version", action="version", version=_version())
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add(commands, "serve", _serve, help_text="run the gateway")
    _add(commands, "check", _check, help_text="read the configuration, say what it means, and exit")
    init = _add(commands, "init", _init, help_text="write a configuration file to start from")
    init.add_argument("path", nargs="?", default="config.yaml", help="default: config.yaml; never overwritten")
    mock_command = commands.add_parser("mock", help="run the scripted provider alone, to try clients against")
    mock_command.add_argument("--port", type=int, default=9999, help="default: 9999")
    mock_command.set_defaults(run=lambda options: uvloop.run(mock(options.port)))
    people.add_commands(commands, _add, read_settings)
    return parser


def read_settings(options: argparse.Namespace) -> Settings:
    """File, environment and flags, merged and checked."""
    overrides = {name: value for name in _OVERRIDES if (value := getattr(options, name, None)) is not None}
    return load(pick_path(options.config, os.environ), os.environ, overrides)


def _add(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, run: Command, *, help_text: str
) -> argparse.ArgumentParser:
    """A command that reads the configuration."""
    parser = commands.add_parser(name, help=help_text, description=help_text[0].upper() + help_text[1:] + ".")
    parser.add_argument("--config", metavar="FILE", help="configuration file, YAML or JSON (also CONFIG_PATH)")
    parser.add_argument("--host", help="address to listen on")
    parser.add_argument("--port", help="port to listen on; 0 takes any free one (also PORT)")
    parser.add_argument("--data-dir", help="where SQLite and the instance's identity live; default ./data")
    parser.add_argument("--mongodb-uri", help="keep users, keys and books in MongoDB (also MONGODB_URI)")
    parser.add_argument("--log-format", choices=("text", "json"))
    parser.add_argument("--log-level", choices=("debug", "info", "warning", "error"))
    parser.add_argument("--debug", action="store_const", const=True, help="log everything (also DEBUG)")
    parser.add_argument("--no-demo", dest="demo", action="store_const", const=False, help="no built-in demo model")
    parser.set_defaults(run=run)
    return parser


def _serve(options: argparse.Namespace) -> int:
    settings = read_settings(options)
    return uvloop.run(serve(settings, read_settings=lambda: read_settings(options)))


def _check(options: argparse.Namespace) -> int:
    settings = read_settings(options)
    catalog = build_catalog(settings, demo_endpoint=("127.0.0.1", 0))
    print(json.dumps(settings.describe(), indent=2, ensure_ascii=False))
    for model in catalog.models:
        formats = ", ".join(catalog.providers[model.provider].endpoints)
        print(f"# {model.model_id}: {model.provider} ({formats}), price version {model.price.version}")
    return 0


def _init(options: argparse.Namespace) -> int:
    with open(options.path, "x", encoding="utf-8") as file:  # noqa: PTH123 - "x" is the point: never overwrite
        file.write(_TEMPLATE)
    print(f"Wrote {options.path}. Next: trollproxy check --config {options.path}")
    return 0
