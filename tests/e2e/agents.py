"""The coding agents as people run them: without a terminal, each with a home and a project of its own.

`make agents` installs them; what is missing fails. No agent outlives its run: it is a process group, and one that takes
too long is killed by its own id. Nothing of the caller's settings, and no telemetry or update check, comes into a run.
"""

import json
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.process import ROOT, GatewayProcess

INSTALLED = ROOT / ".cache" / "agents"
NPM = INSTALLED / "npm" / "node_modules" / ".bin"
AIDER = INSTALLED / "aider" / "bin" / "aider"
WITHIN_S = 45.0
FILE = "notes.txt"
OLD, NEW = "old line\n", "new line\n"


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str

    def check(self) -> "Ended":
        assert self.code == 0, f"exit code {self.code}\n{self.out[-4000:]}\n{self.err[-4000:]}"
        return self


class Desk:
    """Where an agent works: its project holds one file, its home what it keeps for itself."""

    def __init__(self, folder: Path) -> None:
        self.project = folder / "project"
        self.home = folder / "home"
        self.scratch = folder / "scratch"
        for made in (self.project, self.home, self.scratch):
            made.mkdir()
        self.file = self.project / FILE
        self.file.write_text(OLD)

    def run(self, *command: str | Path, **environment: str) -> Ended:
        assert Path(command[0]).exists(), f"{command[0]} is missing: make agents"
        own = {"PATH": os.environ["PATH"], "HOME": str(self.home), "TMPDIR": str(self.scratch), "LANG": "C.UTF-8"}
        with subprocess.Popen(
            [str(part) for part in command],
            cwd=self.project,
            env=own | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                out, err = process.communicate(timeout=WITHIN_S)
            except BaseException:
                os.killpg(process.pid, signal.SIGKILL)
                raise
        return Ended(process.returncode, out, err)


def claude_code(desk: Desk, gateway: GatewayProcess, model: str, *arguments: str, **environment: str) -> Ended:
    return desk.run(
        NPM / "claude",
        *("--print", f"Change {FILE}.", "--model", model, "--permission-mode", "acceptEdits", *arguments),
        **{
            "ANTHROPIC_BASE_URL": gateway.url,
            "ANTHROPIC_AUTH_TOKEN": gateway.key,
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "CLAUDE_CODE_MAX_RETRIES": "1",
            **environment,
        },
    )


def codex(desk: Desk, gateway: GatewayProcess, model: str, *settings: str) -> Ended:
    """`settings` are lines of config.toml, before the provider's table."""
    lines = [
        *(f'model = "{model}"', 'model_provider = "trollproxy"', *settings),
        *("[model_providers.trollproxy]", 'name = "trollproxy"', f'base_url = "{gateway.url}/v1"'),
        *('wire_api = "responses"', 'env_key = "TROLLPROXY_KEY"'),
        *("request_max_retries = 0", "stream_max_retries = 1"),
    ]
    (desk.home / "config.toml").write_text("\n".join(lines))
    return desk.run(
        NPM / "codex",
        *("exec", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox", "--json", f"Change {FILE}."),
        CODEX_HOME=str(desk.home),
        TROLLPROXY_KEY=gateway.key,
    )


def codex_catalog(desk: Desk, model: str, like: str) -> str:
    """A setting that makes Codex treat the model as one that it knows."""
    known = next(entry for entry in _codex_models(desk) if entry["slug"] == like)
    catalog = desk.home / "models.json"
    catalog.write_text(json.dumps({"models": [{**known, "slug": model, "supports_search_tool": False}]}))
    return f'model_catalog_json = "{catalog}"'


def _codex_models(desk: Desk) -> list[dict[str, Any]]:
    listed = desk.run(NPM / "codex", "debug", "models", CODEX_HOME=str(desk.home)).check()
    models: list[dict[str, Any]] = json.loads(listed.out)["models"]
    return models


def aider(desk: Desk, gateway: GatewayProcess, model: str) -> Ended:
    # Younger than a day, it keeps aider from asking GitHub for prices.
    prices = desk.home / ".aider" / "caches" / "model_prices_and_context_window.json"
    prices.parent.mkdir(parents=True)
    prices.write_text("{}")
    quiet = ("--no-git", "--yes-always", "--no-show-model-warnings", "--no-check-update", "--no-analytics")
    return desk.run(
        AIDER,
        *("--model", f"openai/{model}", "--edit-format", "diff", *quiet, "--message", f"Change {FILE}.", FILE),
        OPENAI_API_BASE=f"{gateway.url}/v1",
        OPENAI_API_KEY=gateway.key,
        LITELLM_LOCAL_MODEL_COST_MAP="True",
    )


def cline(desk: Desk, gateway: GatewayProcess, model: str) -> Ended:
    own = ("--data-dir", str(desk.home / "data"))
    provider = ("-P", "openai-compatible", "-k", gateway.key, "-m", model)
    named = ("-p", *provider[1:], "-b", f"{gateway.url}/v1")
    desk.run(NPM / "cline", "auth", *named, *own).check()
    return desk.run(NPM / "cline", *provider, *own, "--json", "--retries", "1", f"Change {FILE}.")


def texts(value: object) -> Iterator[str]:
    """Every string in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from texts(part)
    elif isinstance(value, list):
        for part in value:
            yield from texts(part)


def mentions(body: object, words: str) -> bool:
    return any(words in text for text in texts(body))
