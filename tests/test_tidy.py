"""The house rules that no linter knows: sizes, names, nesting, and that the documents tell all there is."""

import ast
import re
import runpy
import statistics
import subprocess
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "trollproxy"
MODULES = sorted(PACKAGE.rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))

MAX_FILE_LINES = 600
MAX_FUNCTION_LINES = 70
MEDIAN_FUNCTION_LINES = 8
NINE_TENTHS_FUNCTION_LINES = 30
MAX_PARAMETERS = 6
MAX_POSITIONAL = 3  # docs/decisions/0003: (status, headers, body) needs no keywords, a fourth does
MAX_NESTING = 3
FORBIDDEN_NAMES = {"utils", "helpers", "common", "misc", "base", "manager", "handler", "service", "processor"}
CALLED_BY_LIBRARIES = {"handle_error", "_request"}  # aiohttp's signatures, which we cannot choose
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b|NotImplementedError|(?i:\bfor now\b|placeholder)")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(path: Path) -> Iterator[tuple[str, Function]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, Function):
            yield f"{path.relative_to(ROOT)}:{node.lineno} {node.name}", node


def lines_of(node: Function) -> int:
    assert node.end_lineno is not None
    return node.end_lineno - node.lineno + 1


def all_functions() -> list[tuple[str, Function]]:
    return [found for path in MODULES for found in functions(path)]


def nesting(node: ast.AST, depth: int = 0) -> int:
    blocks = ast.If | ast.For | ast.AsyncFor | ast.While | ast.Try | ast.With | ast.AsyncWith | ast.Match
    deepest = depth
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Function | ast.Lambda):
            continue
        # `elif` is an If inside an If's else, and no deeper for a reader
        is_elif = isinstance(node, ast.If) and isinstance(child, ast.If) and child in node.orelse
        step = 1 if isinstance(child, blocks) and not is_elif else 0
        deepest = max(deepest, nesting(child, depth + step))
    return deepest


def compiled() -> list[Path]:
    found: list[str] = runpy.run_path(str(ROOT / "setup.py"))["modules"]()
    return [ROOT / name for name in found]


def stored(node: ast.AST) -> set[str]:
    """The variables and attributes that are assigned in it."""
    targets = [each for each in ast.walk(node) if isinstance(each, ast.Name | ast.Attribute)]
    return {ast.unparse(each) for each in targets if isinstance(each.ctx, ast.Store)}


def read_late(tree: ast.AST) -> Iterator[str]:
    """What a `finally` reads is to the compiler what it is after the whole `try`. Flags never change their type."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Try) and node.finalbody:
            read = {ast.unparse(each) for part in node.finalbody for each in ast.walk(part)}
            both = read & set().union(*map(stored, node.body))
            yield from (f"{node.lineno} {word}" for word in both if not word.startswith(("is_", "has_")))


def set_in_class(tree: ast.AST) -> Iterator[str]:
    """An object does not get every value that stands in its class: none that may be several things."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and "NamedTuple" not in map(ast.unparse, node.bases):
            values = (part for part in node.body if isinstance(part, ast.AnnAssign) and part.value is not None)
            yield from (f"{part.lineno} {ast.unparse(part.target)}" for part in values)


def nested(tree: ast.AST) -> Iterator[str]:
    """A coroutine and the functions in it become a cycle, which keeps all it knew until the collector comes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.AsyncFunctionDef):
            inner = (each for each in ast.walk(node) if each is not node and isinstance(each, Function | ast.Lambda))
            yield from (f"{each.lineno} in {node.name}" for each in inner)


@pytest.mark.parametrize("find", [read_late, set_in_class, nested])
def test_what_is_compiled_holds_nothing_that_the_compiler_gets_wrong(find: Callable[[ast.AST], Iterator[str]]) -> None:
    found = {path.name: list(find(ast.parse(path.read_text()))) for path in compiled()}
    assert {name: places for name, places in found.items() if places} == {}


def test_files_are_small() -> None:
    lengths = {str(path.relative_to(ROOT)): path.read_text().count("\n") for path in MODULES + TESTS}
    assert {name: length for name, length in lengths.items() if length > MAX_FILE_LINES} == {}


def test_functions_are_short() -> None:
    lengths = {name: lines_of(node) for name, node in all_functions()}
    assert {name: length for name, length in lengths.items() if length > MAX_FUNCTION_LINES} == {}
    assert statistics.median(lengths.values()) <= MEDIAN_FUNCTION_LINES
    assert statistics.quantiles(lengths.values(), n=10)[-1] <= NINE_TENTHS_FUNCTION_LINES


def test_functions_take_few_parameters() -> None:
    wrong = []
    for name, node in all_functions():
        positional = [a.arg for a in (*node.args.posonlyargs, *node.args.args) if a.arg not in {"self", "cls"}]
        too_many = len(positional) + len(node.args.kwonlyargs) > MAX_PARAMETERS
        if (too_many or len(positional) > MAX_POSITIONAL) and node.name not in CALLED_BY_LIBRARIES:
            wrong.append(name)
    assert wrong == []


def test_nesting_is_flat() -> None:
    assert [name for name, node in all_functions() if nesting(node) > MAX_NESTING] == []


def test_every_module_says_what_it_is_for() -> None:
    assert [str(path) for path in MODULES if not ast.get_docstring(ast.parse(path.read_text()))] == []


@pytest.mark.parametrize("path", [*MODULES, *TESTS], ids=lambda path: str(path.relative_to(ROOT)))
def test_file_names_say_something(path: Path) -> None:
    words = set(re.split(r"[_/.]", str(path.relative_to(ROOT)).lower()))
    assert not words & FORBIDDEN_NAMES


def tracked(*patterns: str) -> list[Path]:
    found = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [ROOT / line for line in found.stdout.splitlines() if (ROOT / line).is_file()]


def test_nothing_is_left_unfinished() -> None:
    this = Path(__file__)
    marks = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in tracked("*.py", "*.md", "*.yaml", "Makefile")
        if path != this and path.name != "CHANGELOG.md"
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if UNFINISHED.search(line)
    ]
    assert marks == []


def test_nothing_names_this_machine_or_a_registry() -> None:
    machine = re.compile(r"(?<![\w.])/(?:work|root|opt/pypi)/|index-url|\"resolved\":|/tmp/bash_jobs")
    this = Path(__file__)
    found = [
        str(path.relative_to(ROOT))
        for path in tracked(
            "*.py", "*.md", "*.toml", "*.cfg", "*.lock", "*.json", "*.txt", "*.yaml", "Makefile", ".ci/run"
        )
        if path != this and machine.search(path.read_text())
    ]
    assert found == []


def test_unit_tests_mirror_the_package() -> None:
    """Each unit-test file stands where the module stands that it tests, or names an aspect of its package."""
    unit = ROOT / "tests" / "unit"
    packages = {path.parent.relative_to(PACKAGE) for path in MODULES}
    strangers = [path for path in unit.rglob("test_*.py") if path.parent.relative_to(unit) not in packages]
    assert strangers == []


def documented(name: str) -> str:
    return (ROOT / "docs" / name).read_text()


def test_every_error_code_is_documented() -> None:
    codes = set()
    for path in MODULES:
        codes.update(re.findall(r"\bcode=\"([a-z_]+)\"", path.read_text()))
    codes.update(re.findall(r"code, status, origin(?:, retry)? = \"([a-z_]+)\"", (PACKAGE / "errors.py").read_text()))
    missing = sorted(code for code in codes if f"`{code}`" not in documented("errors.md"))
    assert missing == []


def test_every_endpoint_is_documented() -> None:
    paths = re.findall(r"^        \"(/[^\"]*)\":", (PACKAGE / "web" / "server.py").read_text(), flags=re.MULTILINE)
    assert paths
    assert [path for path in paths if f"`{path}`" not in documented("endpoints.md")] == []


def test_the_readme_commands_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z]+)", (ROOT / "README.md").read_text()))
    assert {"run", "test"} <= named <= targets


def test_changelog_dates_go_down() -> None:
    dates = re.findall(r"^## \[?[\d.]+\]? - (\d{4}-\d\d-\d\d)", documented("../CHANGELOG.md"), flags=re.MULTILINE)
    assert all(later >= earlier for later, earlier in pairwise(dates))
