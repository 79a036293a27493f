"""The configuration file as a tree of plain values: YAML or JSON, each key once, `${VAR}` filled in.

The content decides, not the name: a file that is valid JSON is read as JSON, all else as YAML. Errors say where, and
never quote the file, since it holds secrets.
Must not know: which settings there are, and what their values mean.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Never

import yaml

Tree = dict[str, object]

_REFERENCE = re.compile(r"(\$?)\$\{([^}]*)(\}?)")  # a doubled dollar keeps the braces as they stand
_VARIABLE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)


class ConfigError(Exception):
    """The configuration cannot be used: which file (or other source), where in it, and why."""

    def __init__(self, file: str, path: str, reason: str) -> None:
        super().__init__(": ".join(part for part in (file, path, reason) if part))
        self.file = file
        self.path = path
        self.reason = reason


class _NotYamlError(ConfigError):
    """The text is neither of the two; the caller picks whose complaint is shown."""


def read_tree(path: str, env: Mapping[str, str]) -> Tree:
    """The file's content, with variables of `env` filled in. An empty file is an empty tree."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(path, "", f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(path, "", "is not UTF-8 text") from None
    return parse_tree(text, file=path, env=env)


def parse_tree(text: str, *, file: str, env: Mapping[str, str]) -> Tree:
    try:
        tree = _parse(text, file)
        if tree is None:
            return {}
        if not isinstance(tree, dict):
            raise ConfigError(file, "", "must be a mapping of settings")
        return _expand_mapping(tree, at="", file=file, env=env)
    except RecursionError:
        raise ConfigError(file, "", "is nested too deeply") from None


def _parse(text: str, file: str) -> object:
    if not text.lstrip().startswith("{"):
        return _parse_yaml(text, file)
    try:
        return json.loads(
            text, object_pairs_hook=lambda pairs: _read_pairs(pairs, file), parse_constant=lambda _: _refuse(file)
        )
    except json.JSONDecodeError as error:
        # `{port: 8080}` is good YAML. Where neither reads it, JSON's complaint is the one that was meant.
        try:
            return _parse_yaml(text, file)
        except _NotYamlError:
            where = f"line {error.lineno}, column {error.colno}"
            raise ConfigError(file, where, f"is not valid JSON: {error.msg}") from None


def _refuse(file: str) -> Never:
    raise ConfigError(file, "", "NaN and Infinity are not numbers of JSON")


def _read_pairs(pairs: list[tuple[str, object]], file: str) -> Tree:
    tree: Tree = {}
    for key, value in pairs:
        if key in tree:
            raise ConfigError(file, key, f"key `{key}` is given twice in one mapping")
        tree[key] = value
    return tree


class _Loader(yaml.SafeLoader):
    """PyYAML keeps the last of equal keys in silence; a price given twice must not be settled by luck."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            where = f"line {key.start_mark.line + 1}"
            if key.tag == "tag:yaml.org,2002:merge":
                continue
            if key.tag != "tag:yaml.org,2002:str":
                raise ConfigError("", where, "a key must be text")
            if key.value in seen:
                raise ConfigError("", where, f"key `{key.value}` is given twice in one mapping")
            seen.add(key.value)
        return node


def _parse_yaml(text: str, file: str) -> object:
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506  # a SafeLoader
    except ConfigError as error:
        raise ConfigError(file, error.path, error.reason) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise _NotYamlError(file, where, f"is not valid YAML: {error.problem}") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date such as 2025-13-45
        reason = getattr(error, "reason", "a value is out of range")
        raise _NotYamlError(file, "", f"is not valid YAML: {reason}") from None


def _expand_mapping(tree: Tree, *, at: str, file: str, env: Mapping[str, str]) -> Tree:
    for key in tree:
        # Errors set names in backticks, and are taken apart again by them.
        if "`" in key:
            raise ConfigError(file, at.rstrip("."), "a key must not hold a backtick")
    return {key: _expand(item, at=at + key, file=file, env=env) for key, item in tree.items()}


def _expand(value: object, *, at: str, file: str, env: Mapping[str, str]) -> object:
    if isinstance(value, dict):
        return _expand_mapping(value, at=f"{at}.", file=file, env=env)
    if isinstance(value, list):
        return [_expand(item, at=f"{at}[{index}]", file=file, env=env) for index, item in enumerate(value)]
    if not isinstance(value, str):
        return value
    try:
        return _REFERENCE.sub(lambda found: _look_up(found, env), value)
    except ValueError as error:
        raise ConfigError(file, at, str(error)) from None


def _look_up(found: re.Match[str], env: Mapping[str, str]) -> str:
    escape, content, closing = found.groups()
    if escape:
        return found[0][1:]
    variable = _VARIABLE.fullmatch(content)
    if variable is None or not closing:
        raise ValueError("a reference must read ${NAME} or ${NAME:-default}; write $${ for a plain ${")
    name, default = variable.groups()
    if default is None and name not in env:
        raise ValueError(f"the environment variable {name} is not set, and no default is given")
    return env.get(name) or default or ""
