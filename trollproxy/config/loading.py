"""Settings from a file, the environment and the command line. Flags win over the environment, it over the file.

Everything is checked before anything starts: `load` returns settings that can be served, or raises ConfigError with
the source, the path in it and the reason. This module merges the sources; text reads the file, decode
judges single values, rules what must hold between them.
Must not know: event loops, HTTP, databases, the records that catalog.py makes of the settings.
"""

from collections.abc import Mapping
from pathlib import Path

import msgspec

from trollproxy.config.decode import Sources, decode, join
from trollproxy.config.rules import check
from trollproxy.config.settings import MAIN, OPENHANDS, Listener, Settings
from trollproxy.config.text import ConfigError, Tree, read_tree

__all__ = ["ConfigError", "Settings", "load", "pick_path"]

OPENHANDS_URL = "https://llm-proxy.app.all-hands.dev"

_DEFAULT_FILES = ("config.yaml", "config.json")
_VARIABLES = {
    "MONGODB_URI": ("mongodbUri",),
    "PORT": ("port",),
    "DEBUG": ("debug",),
    "PROXY_API_KEY": ("proxyApiKey",),
    "BINDING_RELOAD_INTERVAL": ("reloadInterval",),
    "TROLLPROXY_PEPPER": ("pepper",),
    "MAIN_TARGET_SERVER": ("upstreams", MAIN, "baseUrl"),
}
_OVERRIDES = {
    "host": ("host",),
    "port": ("port",),
    "debug": ("debug",),
    "demo": ("demo",),
    "data_dir": ("dataDir",),
    "mongodb_uri": ("mongodbUri",),
    "log_format": ("log", "format"),
    "log_level": ("log", "level"),
    "reload_interval": ("reloadInterval",),
    "drain_timeout": ("drainTimeout",),
}
_MAY_BE_EMPTY = ("mongodbUri", "proxyApiKey", "pepper", "fallbackUpstream")  # `${VAR:-}` is how a file says "if set"
_SWITCH_WORDS = {"yes": True, "on": True, "no": False, "off": False}
_BOTH_FORMATS = ("openai", "anthropic")


def pick_path(flag: str | None, env: Mapping[str, str], *, folder: str = ".") -> str | None:
    """--config, else CONFIG_PATH, else the first of config.yaml and config.json that exists. None: go by defaults."""
    named = flag or env.get("CONFIG_PATH")
    if named:
        return named
    paths = (Path(folder) / name for name in _DEFAULT_FILES)
    return next((str(path) for path in paths if path.is_file()), None)


def load(path: str | None, env: Mapping[str, str], overrides: Mapping[str, object]) -> Settings:
    """Read, merge and check. Variables that are set but empty, and overrides that are None, count as not given."""
    tree = read_tree(path, env) if path is not None else {}
    sources = Sources(path if path is not None else "defaults")
    for key in _MAY_BE_EMPTY:
        if tree.get(key) == "":
            del tree[key]
    _apply_environment(tree, env, sources)
    _apply_overrides(tree, overrides, sources)
    _complete_upstreams(tree, sources)
    _complete_models(tree, sources)
    settings = _with_listeners(decode(tree, Settings, sources=sources), tree, sources)
    check(settings, sources)
    return settings


def _apply_environment(tree: Tree, env: Mapping[str, str], sources: Sources) -> None:
    given = {name: value for name, value in env.items() if value}
    for variable, keys in _VARIABLES.items():
        if variable in given:
            value = given[variable]
            _put(tree, keys, _SWITCH_WORDS.get(value.lower(), value) if variable == "DEBUG" else value, sources=sources)
            sources.note(join(*keys), source="environment", name=variable)
    main = _find(tree, "upstreams", MAIN)
    if main is not None and "MAIN_UPSTREAM_KEY" in given:
        main.pop("keys", None)
        main["apiKey"] = given["MAIN_UPSTREAM_KEY"]
        sources.note(f"upstreams.{MAIN}.apiKey", source="environment", name="MAIN_UPSTREAM_KEY")
    if "TROLL_API_KEY" in given:
        _add_openhands_key(tree, given["TROLL_API_KEY"], sources)


def _apply_overrides(tree: Tree, overrides: Mapping[str, object], sources: Sources) -> None:
    for name, value in overrides.items():
        if value is not None:
            keys = _OVERRIDES[name]
            _put(tree, keys, value, sources=sources)
            sources.note(join(*keys), source="command line", name="--" + name.replace("_", "-"))


def _add_openhands_key(tree: Tree, key: str, sources: Sources) -> None:
    """The seeds call it the fallback key, so it comes after the file's own keys instead of replacing them."""
    if _find(tree, "upstreams", OPENHANDS) is None:
        _put(tree, ("upstreams", OPENHANDS, "baseUrl"), OPENHANDS_URL, sources=sources)
    openhands = _find(tree, "upstreams", OPENHANDS)
    assert openhands is not None
    at = f"upstreams.{OPENHANDS}"
    keys = openhands.get("keys", [])
    if not isinstance(keys, list):
        return  # decoding refuses it with its path
    if "apiKey" in openhands and not keys:
        keys = [{"key": openhands.pop("apiKey")}]
        sources.note(f"{at}.keys[0].key", source=sources.file, name=f"{at}.apiKey")
    openhands["keys"] = [*keys, {"key": key}]
    sources.note(f"{at}.keys[{len(keys)}].key", source="environment", name="TROLL_API_KEY")


def _complete_upstreams(tree: Tree, sources: Sources) -> None:
    upstreams = _find(tree, "upstreams") or {}
    for name in upstreams:
        upstream = _find(upstreams, name)
        if upstream is None:
            continue
        if name == OPENHANDS:
            upstream.setdefault("baseUrl", OPENHANDS_URL)
        if name in {MAIN, OPENHANDS} and "type" not in upstream:
            upstream.setdefault("formats", _BOTH_FORMATS)
        _spell_out(upstream, ("keys", "key"), f"upstreams.{name}.keys", sources=sources)


def _complete_models(tree: Tree, sources: Sources) -> None:
    models = tree.get("models")
    for index, model in enumerate(models if isinstance(models, list) else ()):
        if isinstance(model, dict):
            _spell_out(model, ("fallbacks", "upstream"), f"models[{index}].fallbacks", sources=sources)


def _spell_out(section: Tree, names: tuple[str, str], at: str, *, sources: Sources) -> None:
    """An entry of the list may be a text alone, which then stands for a mapping with that one member."""
    listed, member = names
    entries = section.get(listed)
    if not isinstance(entries, list):
        return
    section[listed] = [{member: entry} if isinstance(entry, str) else entry for entry in entries]
    for index, entry in enumerate(entries):
        if isinstance(entry, str):
            sources.note(f"{at}[{index}].{member}", source=sources.file, name=f"{at}[{index}]")


def _with_listeners(settings: Settings, tree: Tree, sources: Sources) -> Settings:
    if "listeners" not in tree:
        listener = Listener(port=settings.port, wallet="legacy")
        return msgspec.structs.replace(settings, listeners=(listener,))
    if "port" in tree:
        # Which wallet a port spends is never guessed, so a stray PORT must not stand in for a list of listeners.
        sources.refuse("port", "stands beside `listeners`; give one of the two")
    return settings


def _put(tree: Tree, keys: tuple[str, ...], value: object, *, sources: Sources) -> None:
    *outer, last = keys
    for depth, key in enumerate(outer, start=1):
        inner = tree.setdefault(key, {})
        if not isinstance(inner, dict):
            sources.refuse(join(*outer[:depth]), "expected a mapping")
        tree = inner
    tree[last] = value


def _find(tree: Tree, *keys: str) -> Tree | None:
    found: object = tree
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else None
