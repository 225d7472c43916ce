"""The documentation: links, examples, the generated reference, the size of the README, words."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer.main

from tests.words import banned_phrases

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "kernels").glob("*.md")),
    *sorted((ROOT / "models").rglob("*.md")),
    ROOT / "examples" / "README.md",
]
EXAMPLES = [page for page in PAGES if page == README or page.is_relative_to(ROOT / "docs")]
MOST_LINES_OF_README = 170
GLOBAL = {"--install-completion", "--no-color", "--verbose", "-v", "--version", "--help", "-h"}
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub names them."""
    found: dict[str, int] = {}
    names = set()
    for heading in re.findall(r"^#+ (.*)$", FENCE.sub("", text_of(path)), re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
        name = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        number = found.get(name, 0)
        found[name] = number + 1
        names.add(f"{name}-{number}" if number else name)
    return names


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for link in LINK.findall(FENCE.sub("", text_of(page))):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert not broken


def test_every_page_of_docs_is_linked_from_its_index() -> None:
    index = ROOT / "docs" / "README.md"
    linked = {
        (index.parent / link.partition("#")[0]).resolve() for link in LINK.findall(text_of(index))
    }
    assert {page for page in (ROOT / "docs").rglob("*.md") if page != index} <= linked


@cache
def command_line() -> Any:
    from nsa_cli.cli.app import app

    return typer.main.get_command(app)


def command_of(words: list[str]) -> tuple[Any, str, list[str]]:
    """The command that words name, its name, and the words behind it."""
    command, name = command_line(), "nsa"
    words = [word for word in words if word not in GLOBAL]
    while hasattr(command, "commands") and words:
        name, *words = words
        assert name in command.commands, f"no command {name}"
        command = command.commands[name]
    return command, name, words


def command_lines(page: Path) -> Iterator[str]:
    """The shell commands of a page: console lines behind a prompt, and lines of `sh` blocks."""
    for language, body in FENCE.findall(text_of(page)):
        body = body.replace("\\\n", " ")
        if language == "console":
            lines: list[str] = []
            for line in body.splitlines():
                unfinished = lines and lines[-1].count("'") % 2
                if line.startswith("$ "):
                    lines.append(line.removeprefix("$ "))
                elif unfinished or (lines and lines[-1].endswith("|")):
                    lines[-1] += f" {line}"
            yield from lines
        elif language == "sh":
            yield from body.splitlines()


def nsa_calls(line: str) -> Iterator[list[str]]:
    """The arguments of each call of nsa in a line of shell."""
    reader = shlex.shlex(line, posix=True, punctuation_chars="|&;")
    reader.whitespace_split = True
    reader.commenters = "#"
    words: list[str] = []
    for word in [*reader, "|"]:
        if set(word) <= set("|&;"):
            while words and re.match(r"\w+=", words[0]):
                words.pop(0)
            if words and Path(words[0]).name == "nsa":
                yield words[1:]
            words = []
        else:
            words.append(word)


@pytest.mark.parametrize("page", EXAMPLES, ids=shown)
def test_the_program_parses_every_example(page: Path) -> None:
    for line in command_lines(page):
        for words in nsa_calls(line):
            redirected = next((n for n, word in enumerate(words) if word[:1] in "<>"), len(words))
            command, name, rest = command_of(words[:redirected])
            if name == "nsa" and words and not rest:  # options of the program alone
                continue
            try:
                values = command.make_context(name, rest).params
            except Exception as error:
                raise AssertionError(f"{line}: {error}") from error
            for param in command.params:
                choices, value = (param.metavar or "").split("|"), values.get(param.name)
                words_to_choose = len(choices) > 1 and all(map(str.islower, choices))
                chosen = not words_to_choose or value is None or value in choices
                assert chosen, f"{line}: {value} is none of {choices}"


def test_examples_are_found() -> None:
    assert [*nsa_calls('cat a | NSA_TOP=3 nsa ask - "Who? | why?" && nsa doctor &')] == [
        ["ask", "-", "Who? | why?"],
        ["doctor"],
    ]
    assert sum(len(list(nsa_calls(line))) for line in command_lines(README)) > 8


@pytest.mark.parametrize("page", EXAMPLES, ids=shown)
def test_commands_in_the_text_exist(page: Path) -> None:
    """Inline code such as `nsa models add NAME PATH`; options must be the command's."""
    for code in re.findall(r"`nsa ([^`\n]+)`", FENCE.sub("", text_of(page))):
        command, _, rest = command_of(shlex.split(code))
        known = {flag for param in command.params for flag in (*param.opts, *param.secondary_opts)}
        unknown = [word for word in rest if word.startswith("-") and word[1:] and word not in known]
        assert not unknown, f"nsa {code}: {unknown}"


@cache
def reference(name: str = "write_reference") -> ModuleType:
    path = ROOT / "examples" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_is_current() -> None:
    pytest.importorskip("starlette")
    written = reference().pages()
    folder = ROOT / "docs" / "reference"
    stale = [name for name, text in written.items() if text_of(folder / name) != text]
    assert not stale, "run python examples/write_reference.py"
    assert {path.name for path in folder.glob("*.md")} == set(written)


@pytest.fixture
def manual(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setitem(sys.modules, "write_reference", reference())
    return reference("write_manual")


def test_the_manual_is_current(manual: ModuleType) -> None:
    written = manual.pages()
    folder = ROOT / "docs" / "man"
    stale = [name for name, text in written.items() if text_of(folder / name) != text]
    assert not stale, "run python examples/write_manual.py"
    assert {path.name for path in folder.iterdir()} == set(written)


def test_the_manual_has_every_command_and_option(manual: ModuleType) -> None:
    text = "".join(manual.pages().values())
    for name, command in reference().commands():
        assert f"\\fB{manual.escaped(name)}\\fR" in text
        for param in command.params:
            for flag in () if getattr(param, "hidden", False) else param.opts:
                assert param.param_type_name == "argument" or manual.bold(flag) in text


def test_no_text_becomes_a_request_of_the_manual(manual: ModuleType) -> None:
    assert manual.escaped(".nf \\fB\n'x `--a`") == "\\&.nf \\efB\n\\&'x \\-\\-a"


@pytest.mark.skipif(not shutil.which("mandoc"), reason="no mandoc")
def test_the_manual_has_no_errors_of_form() -> None:
    pages = map(str, (ROOT / "docs" / "man").iterdir())
    done = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", *pages], capture_output=True)
    assert not done.stdout + done.stderr


def test_the_readme_is_short_and_begins_with_what_ci_runs() -> None:
    text = text_of(README)
    assert len(text.splitlines()) <= MOST_LINES_OF_README
    first, second = [body for language, body in FENCE.findall(text) if language == "sh"][:2]
    assert [len(body.splitlines()) for body in (first, second)] == [1, 1]
    assert "nsa ask examples/fhs-3.0.pdf" in first
    assert "pytest" in second


def program(words: list[str], folder: Path) -> list[str]:
    """The lines that `nsa` prints with the default model."""
    command = [sys.executable, "-m", "nsa_cli", *words]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=True, env=environment
    )
    return done.stdout.splitlines()


@pytest.mark.long
@pytest.mark.model
def test_the_program_prints_what_the_readme_shows() -> None:
    """The answer with its first citation, and the best passage; later ones depend on the CPU."""
    blocks = FENCE.findall(text_of(README))
    first, printed = blocks[0][1], next(body for language, body in blocks if language == "text")
    [words] = nsa_calls(first)
    assert program(words, ROOT)[:3] == printed.splitlines()[:3]
    for page in (README, ROOT / "docs" / "guide" / "searching.md"):
        bodies = [body for _, body in FENCE.findall(text_of(page))]
        line, *expected = next(x for x in bodies if x.startswith("$ nsa find ex")).splitlines()[:2]
        [words] = nsa_calls(line.removeprefix("$ "))
        assert program(words, ROOT) == expected


@pytest.mark.long
@pytest.mark.model
def test_the_program_prints_what_the_guide_shows(tmp_path: Path) -> None:
    """The outline of the lease: its headings and citations; the words depend on the CPU."""
    page = text_of(ROOT / "docs" / "guide" / "summaries.md")
    body = next(x for _, x in FENCE.findall(page) if x.startswith("$ cat lease.txt"))
    lease, expected = body.removeprefix("$ cat lease.txt\n").split("$ nsa summarize ")
    command, _, expected = expected.partition("\n")
    (tmp_path / "lease.txt").write_text(lease, encoding="utf-8")
    found = program(["summarize", *command.split()], tmp_path)

    def certain(lines: list[str]) -> list[str]:
        return [line for line in lines if re.match(r"\d |\[\d\] ", line)]

    assert certain(found) == certain(expected.splitlines())
    assert len(certain(found)) == 6


@pytest.mark.long
@pytest.mark.model
@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("jq")), reason="no curl or no jq")
def test_the_server_answers_what_the_guide_shows() -> None:
    page = text_of(ROOT / "docs" / "guide" / "server.md")
    body = next(x for _, x in FENCE.findall(page) if x.startswith("$ nsa serve --root examples &"))
    ready, rest = body.partition("\n")[2].split("\n", 1)
    request, expected = rest.removeprefix("$ ").split("'\n", 1)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    command = [sys.executable, "-m", "nsa_cli", "serve", "--root", "examples", "--port", port]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stderr is not None
            assert ready.replace("8765", port) in (line.rstrip() for line in server.stderr)
            shell = ["bash", "-c", f"{request}'".replace("8765", port)]
            done = subprocess.run(shell, capture_output=True, text=True, check=True)
            assert done.stdout == expected
        finally:
            server.terminate()


def test_the_guide_lists_every_stage() -> None:
    from nsa_cli import events

    text = (ROOT / "docs" / "guide" / "server.md").read_text("utf-8")
    [listed] = re.findall(r"^- `stage` begins .*?`text`", text, re.MULTILINE | re.DOTALL)
    stages = [each.name for each in vars(events).values() if isinstance(each, events.Stage)]
    assert len(stages) >= 4
    assert [name for name in stages if f"`{name}`" not in listed] == []


def test_clients_name_the_model_that_answers() -> None:
    """The server refuses the name of another model, also that of the one that reads."""
    from nsa_cli.engine.answer_model import _LARGER
    from nsa_models.hub.registry import DEFAULT_MODEL

    page = text_of(ROOT / "docs" / "guide" / "server.md")
    named = re.findall(r"\bmodel(?:_name)?(?:=|: )\"?([\w.-]+)", page)
    assert len(named) > 2
    assert set(named) == {_LARGER[DEFAULT_MODEL]}
    printed = [re.findall(r"nsa: (\S+) answers at", text) for text in (page, text_of(README))]
    assert printed == [[_LARGER[DEFAULT_MODEL]]] * 2


def test_versions_agree() -> None:
    from nsa_cli import __version__

    changes = text_of(ROOT / "CHANGELOG.md")
    headings = re.findall(r"^## (.*)$", changes, re.MULTILINE)
    assert headings[0] == "[Unreleased]"
    newest = re.fullmatch(r"\[(\d+\.\d+\.\d+)\] - \d{4}-\d\d-\d\d", headings[1])
    assert newest is not None
    assert newest[1] == __version__
    wheels = [name for page in PAGES for name in re.findall(r"nsa-(\d[\d.]*\d)-", text_of(page))]
    assert wheels
    assert set(wheels) == {__version__}


def test_the_recipes_name_files_and_names_that_exist() -> None:
    codes = re.findall(r"`([^`\n]+)`", FENCE.sub("", text_of(ROOT / "CONTRIBUTING.md")))
    files = {
        shown(path)
        for folder in ("docs", "examples", "kernels", "models", "nsa_cli", "tests")
        for path in (ROOT / folder).rglob("*")
    }
    paths = [each for each in codes if re.fullmatch(r"[\w.-]+(/[\w.-]+)+", each)]
    assert len(paths) > 40
    made = {"build/site"}  # by `make docs`
    named = [each for each in paths if "NAME" not in each and each not in made]
    wanting = [f"/{each}" for each in named if not (ROOT / each).exists()]
    assert not [each for each in wanting if not any(f"/{name}".endswith(each) for name in files)]
    names = {each for each in codes if re.fullmatch(r"_?[A-Z]\w+|_?[a-z]+(_[a-z]+)+", each)}
    source = "".join(text_of(ROOT / each) for each in sorted(files) if each.endswith(".py"))
    assert {"_BY_SUFFIX", "LeftOut", "DENSE_FAMILIES", "_of_suite"} <= names
    others = {"CHANGELOG", "Unreleased"}
    assert [each for each in names - others if not re.search(rf"\b{each}\b", source)] == []


def test_a_change_is_in_one_version() -> None:
    text = text_of(ROOT / "CHANGELOG.md")
    entries = re.findall(r"^- .*(?:\n  .*)*", text, re.MULTILINE)
    changes = [" ".join(each.split()) for each in entries]
    assert len(changes) > 50
    assert len(set(changes)) == len(changes)


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_words_are_the_fields(page: Path) -> None:
    assert not banned_phrases(FENCE.sub("", text_of(page)))


def test_words_of_help_are_the_fields() -> None:
    found = [
        f"{name}: {phrase}"
        for name, command in reference().commands()
        for text in (command.help, *(getattr(param, "help", "") for param in command.params))
        for phrase in banned_phrases(text or "")
    ]
    assert not found
