"""The console examples of the README and the guide, run in order with a tiny random model.

Each page is run in a folder with the files that it names. Outputs that do not come from the default
model are compared; those that do are compared in the tests marked `model`.
"""

from __future__ import annotations

import io
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import docx
import pytest

from nsa_cli.__main__ import run as run_program
from tests.nsa_cli.documents.pdf.test_read import make_pdf
from tests.nsa_cli.tables import made_tables
from tests.test_docs import FENCE, ROOT, text_of

Run = Callable[..., tuple[int, str, str]]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs" / "guide").glob("*.md")),
    ROOT / "docs" / "concepts" / "documents.md",
]
NOT_RUN = {
    r"^python3 -m venv|^\.venv/|^uv |^pipx |^pip ": "installs nsa; .ci/run does it",
    r"^python -m build": "a wheel: the recipe of a release",
    r"^man ": "an installation's manual pages: tests/test_docs.py reads their source",
    r"--install-completion": "the user's shell: tests/nsa_cli/cli/test_completion.py",
    r"\bnsa serve|^curl ": "a server: tests/test_docs.py, tests/nsa_cli/serve",
    r"--ray ": "a Ray cluster: tests/nsa_cli/batch/test_ray_cluster.py",
    r"--device cuda": "a GPU: the tests marked gpu",
    r"--follow": "never ends: tests/nsa_cli/cli/test_input.py",
    r"^nsa models pull": "a download: tests/models/hub/test_fetch.py",
    r"^nsa (train|shards|pretrain)|^torchrun": "minutes of training: tests/nsa_cli/training",
    r"--model native/": "a model trained so: tests/nsa_cli/training/test_pretrain.py",
    r"answer.model ": "another model: tests/nsa_cli/engine/test_answering_model.py",
    r"^nsa eval summaries": "meetings outside the repository: tests/nsa_cli/evaluation",
    r"--adapter ": "an adapter of the default model: tests/nsa_cli/training",
    r"^make documents|document_suite|^nsa eval documents": "PDFs outside the repository",
    r"^pytest": "tests",
    r"^apt-get |dpkg-deb": "packages of Debian's archive: tests/nsa_cli/training",
    r"^python examples": "the default model: tests/models",
}
"""Examples that these tests do not run, and why."""

FEWEST = 65
SHOWN_ID = "f737b14a"
"""The id of a reading in docs/guide/storage.md."""


@dataclass
class Example:
    """A command of a page.

    Attributes:
        line: The command, on one line.
        shown: The lines of output below it.
    """

    line: str
    shown: list[str] = field(default_factory=list)

    def why_not_run(self) -> str | None:
        """The reason not to run it, or None."""
        return next((why for what, why in NOT_RUN.items() if re.search(what, self.line)), None)


def examples(page: Path) -> Iterator[Example]:
    """The commands of a page with their output."""
    for language, body in FENCE.findall(text_of(page)):
        found: list[Example] = []
        for line in body.replace("\\\n", " ").splitlines() if language == "console" else ():
            if line.startswith("$ "):
                found.append(Example(line.removeprefix("$ ")))
            elif found[-1].line.count("'") % 2 or found[-1].line.endswith("|"):
                found[-1].line += f" {line.strip()}"
            else:
                found[-1].shown.append(line)
        if language == "sh":
            found = [Example(line) for line in body.splitlines()]
        yield from found


def shown_file(name: str) -> str:
    """The text of a file that a page shows by `cat`."""
    shown = (each.shown for page in PAGES for each in examples(page) if each.line == f"cat {name}")
    return "\n".join(next(shown)) + "\n"


def write_docx(path: Path, *paragraphs: str) -> None:
    document = docx.Document()
    document.add_heading("Agreement", 1)
    for each in paragraphs:
        document.add_paragraph(each)
    document.save(str(path))


@pytest.fixture
def world(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files that the examples name; it is the working and the home folder."""
    folder = tmp_path / "world"
    for name in ("papers", "contracts", "src", "logs", "minutes", "examples", "models/NSA-1B"):
        (folder / name).mkdir(parents=True)
    report = make_pdf([f"Page {n} of the report on the year 2019" for n in range(1, 61)])
    for name in (
        "report",
        "paper",
        "contract",
        "deed",
        "a",
        "manual",
        "papers/b",
        "examples/fhs-3.0",
    ):
        (folder / f"{name}.pdf").write_bytes(
            report[:] if name == "report" else make_pdf(["A page"])
        )
    for name in ("lease", "annex", "contract", "contracts/d"):
        write_docx(folder / f"{name}.docx", "The tenant pays.", "The landlord repairs the roof.")
    (folder / "lease.txt").write_text(shown_file("lease.txt"))
    (folder / "README.md").write_text("# Retries\n\nThe limit is three.\n")
    (folder / "src" / "client.py").write_text("RETRY_LIMIT = 3  # where retries are counted\n")
    for name in ("app.log", "app.log.1", "logs/worker.log"):
        (folder / name).write_text("12:00 started version 2\n12:01 worker 3: out of memory\n")
    (folder / "minutes" / "may.txt").write_text("The board agreed to sell the boat.\n")
    (folder / "questions.txt").write_text("# Two\nWho wrote it?\n\nWhen?\n")
    (folder / "orders.csv").write_text(made_tables.orders_csv(made_tables.orders()))
    (folder / "models" / "NSA-1B" / "config.json").write_text(json.dumps(NSA_1B))
    shutil.copytree(tiny_model, folder / "models" / "mine.gguf")
    articles = [article(number) for number in range(8)]
    (folder / "questions.jsonl").write_text("".join(json.dumps(each) + "\n" for each in articles))
    (folder / "books.jsonl").write_text(json.dumps({"text": "The rain fell.\n\n" * 900}) + "\n")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(folder))
    return folder


NSA_1B = {
    "model_type": "llama-nsa",
    "vocab_size": 128256,
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 2,
    "max_position_embeddings": 8192,
    "torch_dtype": "bfloat16",
    "tie_word_embeddings": True,
    "block_size": 32,
    "block_counts": 16,
    "window_size": 512,
}


def article(number: int) -> dict[str, object]:
    paragraphs = [
        {
            "text": f"Paragraph {p} of town {number} says that its mayor is number {number * p}.",
            "questions": [{"question": f"Who is {p} of {number}?", "answers": [f"{number * p}"]}],
        }
        for p in range(1, 4)
    ]
    return {"title": f"Town {number}", "paragraphs": paragraphs}


def stages(line: str) -> Iterator[tuple[dict[str, str], list[str]]]:
    """The commands of a pipe: variables that are set before it, and its words."""
    reader = shlex.shlex(line, posix=False, punctuation_chars="|")
    reader.whitespace_split = True
    words: list[str] = []
    for word in [*reader, "|"]:
        if word != "|":
            words.append(word)
            continue
        given = {}
        while re.match(r"\w+=", words[0]):
            name, _, given[name] = words.pop(0).partition("=")
        yield given, [plain for each in words for plain in expanded(each)]
        words = []


def expanded(word: str) -> list[str]:
    """A word as a shell expands it."""
    if word[0] in "'\"":
        return [word[1:-1]]
    word = re.sub(
        r"\"([^\"]*)\"|'([^']*)'", r"\1\2", str(Path(word).expanduser()) if word[0] == "~" else word
    )
    return sorted(map(str, Path().glob(word))) if "*" in word else [word]


def fitting(words: list[str], model: Path) -> list[str]:
    """A call of nsa with the tiny model in place of a named one, and lengths that it can read."""
    command, *rest = words
    while "--model" in rest and "mine" not in rest:
        at = rest.index("--model")
        del rest[at : at + 2]
    if "--lengths" in rest:
        rest[rest.index("--lengths") + 1] = "1500"
    if command in ("ask", "find", "summarize", "batch", "chat", "eval") and "mine" not in rest:
        rest += ["--model", str(model)]
    if command in ("ask", "batch", "chat", "eval"):
        rest += ["--max-tokens", "6"]
    if [command, *rest[:1]] == ["cache", "rm"]:
        rest.append("--force")  # a terminal would ask
    if command == "eval":
        rest += ["--limit", "1", *([] if "--lengths" in rest else ["--lengths", "1500"])]
    return [command, *rest]


@pytest.fixture
def shell(
    world: Path,
    tiny_model: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[[str], tuple[int, str]]:
    """A function that runs a line as a shell does, `nsa` in this process with the tiny model."""

    def program(words: list[str], given: str | None) -> tuple[int, str]:
        words = fitting(words, tiny_model)
        monkeypatch.setattr(sys, "argv", ["nsa", *words])
        stream = io.TextIOWrapper(io.BytesIO((given or "").encode()), "utf-8")
        monkeypatch.setattr(sys, "stdin", stream)
        code = run_program()
        out, err = capsys.readouterr()
        assert not code, f"{words}: {err}"
        return code, out

    def run(line: str) -> tuple[int, str]:
        given: str | None = None
        code = 0
        line, _, target = line.partition(" > ")
        for variables, words in stages(line):
            with monkeypatch.context() as patched:
                for name, value in variables.items():
                    patched.setenv(name, value)
                if words[0] == "nsa":
                    code, given = program(words[1:], given)
                else:
                    done = subprocess.run(
                        words, cwd=world, input=given, capture_output=True, text=True, check=True
                    )
                    code, given = done.returncode, done.stdout
        if target:
            (world / target).write_text(given or "")
        return code, given or ""

    return run


def page_name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def assert_as_shown(example: Example, out: str) -> None:
    """Compare what does not come from the default model."""
    lines = out.splitlines()
    if example.line.startswith("cat lease.txt"):
        assert lines == example.shown
    elif example.line.startswith("nsa ask orders.csv"):  # a terminal shortens the quotes
        pairs = zip(lines, example.shown, strict=True)
        assert all(line.startswith(shown.removesuffix("…”")) for line, shown in pairs), out
    elif example.line.startswith("nsa models show"):
        assert [line for line in lines if line in example.shown] == example.shown
    elif example.line == "nsa cache list":
        assert lines[0].split() == example.shown[0].split()
        assert len(lines) == len(example.shown)
    elif example.line.startswith("nsa summarize lease.txt"):
        assert [line for line in lines if line[:1].isdigit()] == [
            line for line in example.shown if line[:1].isdigit()
        ]


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_the_examples_run(page: Path, shell: Callable[[str], tuple[int, str]]) -> None:
    stored = SHOWN_ID
    if SHOWN_ID in text_of(page):
        shell('nsa ask examples/fhs-3.0.pdf "Who?"')
    for example in examples(page):
        if example.why_not_run() is None:
            code, out = shell(example.line.replace(SHOWN_ID, stored))
            assert code == 0, example.line
            assert_as_shown(example, out)
            if example.line == "nsa cache list":
                stored = out.splitlines()[1].split()[0]


def test_most_examples_are_run() -> None:
    found = [example for page in PAGES for example in examples(page)]
    assert len([each for each in found if each.why_not_run() is None]) >= FEWEST
    unused = [what for what in NOT_RUN if not any(re.search(what, each.line) for each in found)]
    assert not unused
