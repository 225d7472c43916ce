"""Rules for the source tree: imports, sizes, names and words."""

from __future__ import annotations

import ast
import io
import re
import tokenize
import tomllib
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.words import banned_phrases

ROOT = Path(__file__).parents[1]
PACKAGES = {
    "nsa_cli": ROOT / "nsa_cli",
    "nsa_models": ROOT / "models" / "nsa_models",
    "nsa_kernels": ROOT / "kernels" / "nsa_kernels",
}
FILES = {path: package for package, folder in PACKAGES.items() for path in folder.rglob("*.py")}
COMMANDS = (
    *("ask", "find", "summarize", "chat", "batch", "serve", "train", "bench", "eval"),
    *("shards", "pretrain", "cache", "config", "models", "doctor"),
)
MOST_LINES_OF_FILE = 500
MOST_LINES_OF_FUNCTION = 60
MOST_PARAMETERS = 8


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


def module_name(path: Path, package: str) -> str:
    parts = path.relative_to(PACKAGES[package].parent).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


def import_graph() -> dict[str, set[str]]:
    """Imports between modules, those inside functions and under TYPE_CHECKING included."""
    modules = {module_name(path, package): path for path, package in FILES.items()}
    graph: dict[str, set[str]] = {}
    for name, path in modules.items():
        found: set[str] = set()
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.ImportFrom) and node.module:
                assert not node.level, f"{shown(path)}:{node.lineno} has a relative import"
                members = {f"{node.module}.{alias.name}" for alias in node.names}
                found |= members & modules.keys() or {node.module}
            elif isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
        graph[name] = (found & modules.keys()) - {name}
    return graph


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def strings(path: Path) -> Iterator[tuple[int, str]]:
    """Line and text of each string of a file, docstrings and parts of f-strings included."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def messages(path: Path) -> Iterator[tuple[int, str]]:
    """Line and text of each f-string of a file, with `…` in place of its values."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.JoinedStr):
            parts = (each.value if isinstance(each, ast.Constant) else "…" for each in node.values)
            yield node.lineno, "".join(map(str, parts))


def comments(path: Path) -> Iterator[tuple[int, str]]:
    source = io.StringIO(path.read_text(encoding="utf-8"))
    for token in tokenize.generate_tokens(source.readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def program_flags() -> set[str]:
    """The long options of the program's commands."""
    return {
        flag
        for path in (PACKAGES["nsa_cli"] / "cli").rglob("*.py")
        for _, text in strings(path)
        for flag in re.findall(r"^--[a-z][a-z-]+", text)
    }


def measured_functions() -> list[tuple[Path, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Functions with limits; kernels, their launchers and commands of Typer have none."""
    commands = PACKAGES["nsa_cli"] / "cli"
    return [
        (path, function)
        for path, package in FILES.items()
        if package != "nsa_kernels" and not path.is_relative_to(commands)
        for function in functions(path)
    ]


def test_no_module_imports_itself_through_others() -> None:
    try:
        TopologicalSorter(import_graph()).prepare()
    except CycleError as error:
        pytest.fail(f"import circle: {' -> '.join(error.args[1])}")


def test_files_are_short() -> None:
    lengths = {shown(path): len(path.read_text("utf-8").splitlines()) for path in FILES}
    assert not {name: n for name, n in lengths.items() if n > MOST_LINES_OF_FILE}


def test_functions_are_short() -> None:
    found = []
    for path, function in measured_functions():
        assert function.end_lineno is not None
        lines = function.end_lineno - function.lineno + 1
        if lines > MOST_LINES_OF_FUNCTION:
            found.append(f"{shown(path)}:{function.lineno} {function.name}: {lines} lines")
    assert not found, "\n".join(found)


def test_functions_have_few_parameters() -> None:
    found = []
    for path, function in measured_functions():
        each = function.args
        names = [arg.arg for arg in (*each.posonlyargs, *each.args, *each.kwonlyargs)]
        count = len([name for name in names if name not in ("self", "cls")])
        if count > MOST_PARAMETERS:
            found.append(f"{shown(path)}:{function.lineno} {function.name}: {count} parameters")
    assert not found, "\n".join(found)


@pytest.mark.parametrize("package", ["nsa_models", "nsa_kernels"])
def test_libraries_name_no_flag_and_no_command(package: str) -> None:
    flags = program_flags()
    assert {"--model", "--device", "--json"} <= flags
    command = re.compile(rf"\bnsa ({'|'.join(COMMANDS)})\b")
    found = [
        f"{shown(path)}:{line} {text.strip()[:60]}"
        for path, owner in FILES.items()
        if owner == package
        for line, text in strings(path)
        if command.search(text) or flags & set(re.findall(r"--[a-z][a-z-]+", text))
    ]
    assert not found, "\n".join(found)


def test_words_are_the_fields() -> None:
    found = [
        f"{shown(path)}:{line} {phrase}"
        for path in FILES
        for line, text in {*strings(path), *messages(path), *comments(path)}
        for phrase in banned_phrases(text)
    ]
    assert not found, "\n".join(sorted(found))


def docstrings(path: Path) -> Iterator[tuple[int, str]]:
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    for node in ast.walk(tree_of(path)):
        if isinstance(node, kinds) and (text := ast.get_docstring(node)):
            yield getattr(node, "lineno", 1), text


def test_words_of_the_examples_are_the_fields() -> None:
    files = sorted((ROOT / "examples").glob("*.py"))
    found = [
        f"{shown(path)}:{line} {phrase}"
        for path in files
        for line, text in {*strings(path), *messages(path), *comments(path)}
        for phrase in banned_phrases(text)
    ]
    found += [
        f"{shown(path)}: {phrase}"
        for path in sorted((ROOT / "examples").glob("*.sh"))
        for phrase in banned_phrases(path.read_text("utf-8"))
    ]
    assert not found, "\n".join(found)


def test_words_of_the_tests_are_the_fields() -> None:
    """Docstrings and comments; strings of tests are inputs."""
    files = [path for path in (ROOT / "tests").rglob("*.py") if "fixtures" not in path.parts]
    assert len(files) > 100
    found = [
        f"{shown(path)}:{line} {phrase}"
        for path in files
        for line, text in {*docstrings(path), *comments(path)}
        for phrase in banned_phrases(text)
    ]
    assert not found, "\n".join(sorted(found))


def test_words_of_the_web_page_are_the_fields() -> None:
    files = sorted((PACKAGES["nsa_cli"] / "serve" / "page").iterdir())
    assert len(files) > 2
    found = {path.name: banned_phrases(path.read_text("utf-8")) for path in files}
    assert not {name: phrases for name, phrases in found.items() if phrases}


def test_a_banned_phrase_is_found() -> None:
    assert banned_phrases("The lines\nthat bear it\nout, and Whatever else") == [
        "bear it out",
        "Whatever",
    ]
    assert banned_phrases("There is none; there is no room") == ["There is"]


def test_rooms_are_those_of_the_import_law() -> None:
    law = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]
    layers = next(
        contract["layers"]
        for contract in law["contracts"]
        if contract.get("containers") == ["nsa_cli"]
    )
    allowed = {room.strip() for layer in layers for room in layer.split("|")}
    rooms = {
        path.stem if path.suffix == ".py" else path.name
        for path in PACKAGES["nsa_cli"].iterdir()
        if path.suffix == ".py" or (path.is_dir() and any(path.rglob("*.py")))
    }
    assert rooms - {"__init__"} == allowed
