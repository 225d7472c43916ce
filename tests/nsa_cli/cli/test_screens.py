"""What a person sees at terminals of 60, 80 and 120 columns, as it was agreed on.

The documents and answers are made up, so that no screen depends on a model. As in `test_golden`,
`NSA_TEST_GOLDEN=write` writes the screens anew.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

WRITE = os.environ.get("NSA_TEST_GOLDEN") == "write"
GOLDEN = Path(__file__).parent / "golden" / "screens"
_CODES = re.compile(r"\x1b\[(?!2K|1A)[0-9;?]*[A-Za-z]")

PATH = "/home/ann/research/papers/2019/annual reports/final/operating-margin-report.pdf"
ANSWER = """
from nsa_cli.events import AnswerFinished, AnswerText, Note
from nsa_cli.results import Citation, MatchInContext, Stats
import nsa_cli.answering.ask, nsa_cli.answering.find
place = {"page_label": None, "line_start": 12, "line_end": 14, "score": 0.4}
quote = "The operating margin rose to 14.2 % in 2019, from 12.9 % in the year before."
long = PATH
stats = Stats(
    document_tokens=52310, reused_tokens=2310, question_tokens=20, answer_tokens=60,
    load_seconds=1.0, prefill_seconds=48.2, time_to_first_token_seconds=50.1,
    decode_tokens_per_second=12.0, peak_memory_bytes=1, cache_bytes=1, cache_bytes_touched=1,
)
def answer(named, questions, opts, emit):
    emit(Note(text="very/long/folder/notes.txt is not UTF-8; read as Windows-1252, so some "
                   "letters may be wrong"))
    text = ("The operating margin was 14.2 percent in 2019, which the report explains by:\\n\\n"
            "- higher prices of the two largest products since the second quarter, and\\n"
            "- lower costs of materials (`--cost auto|cpu|cuda` in the appendix).\\n\\n"
            "营业利润率在二〇一九年上升到百分之十四点二，因为价格较高，而且材料成本下降，另外汇率也有利。")
    for start in range(0, len(text), 7):
        emit(AnswerText(text=text[start : start + 7]))
    cited = tuple(
        Citation(source=source, page=page, quote=quote, verified=verified, **place)
        for source, page, verified in ((long, 41, True), ("notes.txt", None, False))
    )
    for _ in questions:
        yield AnswerFinished(
            answer=text, citations=cited, model="m", finish_reason="length", stats=stats
        )
def find(named, query, top, opts, emit):
    before = "In the first half of the year sales grew by 3 % while costs were flat. "
    after = " The board expects a margin of about 14 % in 2020, if prices stay as they are."
    return [
        MatchInContext(source=source, page=page, quote=quote, before=before, after=after, **place)
        for source, page in ((long, 41), ("notes.txt", None))
    ]
nsa_cli.answering.ask.ask, nsa_cli.answering.find.find = answer, find
""".replace("PATH", repr(PATH))

CACHE = """
import nsa_cli.kv_store.inventory as inventory
from pathlib import Path
entries = [
    inventory.StoredEntry(
        id=id, name=name, sources=(name,), model=model, tokens=tokens, bytes=size,
        used=1.6e9, folder=Path("/cache/readings/1f3a"),
    )
    for id, name, model, tokens, size in (
        ("1f3a9c2e", PATH, "qwen2.5-coder-0.5b", 52310, 1287000000),
        ("7c00d1b4", "notes.txt", "/home/ann/models/tuned/mine.gguf", 812, 20300000),
    )
]
inventory.stored_entries = lambda: entries
""".replace("PATH", repr(PATH))

EVAL = """
from nsa_cli.evaluation import runner, metrics, report
import nsa_cli.cli.doctor as doctor
def record(suite, right, depth):
    score = metrics.Score(exact_match=False, contains_gold=right, recall=1.0 * right, f1=0.5)
    return runner.QuestionResult(
        setting=runner.Setting(model="qwen2.5-coder-0.5b", attention="nsa", blocks="16"),
        suite=suite, length=16384, depth=depth, tokens=16000, question="Who?", gold=("a",),
        answer="a", score=score, citation_rank=1, passage_rank=2, bm25_rank=3, bm25_asked=True,
        read_seconds=1.0, answer_seconds=1.0,
    )
def examine(measure):
    report.print_report([
        record("needle", True, 0.0), record("needle", False, 1.0), record("aggregation", True, None)
    ])
    return []
doctor.examine = examine
"""
DOCTOR = """
import nsa_cli.cli.doctor as doctor
findings = [
    doctor.Finding(what="program", state="ok", found="nsa 0.1, Python 3.11.7, Linux-6.1-x86_64"),
    doctor.Finding(
        what="memory", state="warning",
        found="1.2 GB free; reading a long document needs about 3 GB",
        remedy="close other programs, or use --model smollm2-135m, which needs less of it",
    ),
]
doctor.examine = lambda measure: findings
"""
MODELS = """
import nsa_cli.cli.models as models, nsa_models.hub.aliases as aliases
from pathlib import Path
models._paths = lambda entry: [Path("/x")] if entry.name == "smollm2-135m" else []
models._others = lambda: []
aliases.aliases = lambda: {"mine": Path("/home/ann/models/of/some/longer/path/mine-q8_0.gguf")}
"""

SCREENS: dict[str, tuple[str, tuple[str, ...]]] = {
    "ask": (ANSWER, ("ask", "a.pdf", "What was the operating margin in 2019?")),
    "ask-two": (
        ANSWER,
        ("ask", "a.pdf", "-a", "What was the operating margin, and why did it rise?", "-a", "Who?"),
    ),
    "find": (ANSWER, ("find", "a.pdf", "operating margin")),
    "cache-list": (CACHE, ("cache", "list")),
    "eval": (EVAL, ("doctor",)),
    "doctor": (DOCTOR, ("doctor",)),
    "models-list": (MODELS, ("models", "list")),
    "config-list": ("", ("config", "list", "--all")),
    "error": ("", ("ask", "Who signed the contract of 2019, and when did they sign it?")),
    "help-ask": ("", ("ask", "--help")),
}


def at_the_end(shown: str) -> str:
    """Text of a terminal after some output, without colors and without what was erased."""
    lines, row, column = [""], 0, 0
    for part in re.split(r"(\n|\r|\x1b\[2K|\x1b\[1A)", _CODES.sub("", shown)):
        match part:
            case "\n":
                row, column = row + 1, 0
                lines += [""] * (row - len(lines) + 1)
            case "\r":
                column = 0
            case "\x1b[2K":
                lines[row] = ""
            case "\x1b[1A":
                row -= 1
            case _:
                before = lines[row].ljust(column)
                lines[row] = before[:column] + part + before[column + len(part) :]
                column += len(part)
    return "\n".join(lines[: row + 1])


@pytest.mark.parametrize(
    "columns",
    [80, pytest.param(60, marks=pytest.mark.long), pytest.param(120, marks=pytest.mark.long)],
)
@pytest.mark.parametrize("name", SCREENS)
def test_a_screen(terminal: Any, name: str, columns: int) -> None:
    first, words = SCREENS[name]
    _, shown = terminal(*words, columns=columns, first=first, TZ="UTC").end()
    screen = at_the_end(shown)
    assert "Traceback" not in screen
    for line in screen.split("\n"):
        example = name == "help-ask" and "nsa ask" in line  # to be copied, so never broken
        assert cell_len(line) <= columns or example, line
    path = GOLDEN / f"{name}-{columns}.txt"
    if WRITE:
        path.parent.mkdir(exist_ok=True)
        path.write_text(screen)
    assert screen == path.read_text()


def test_find_marks_the_words_of_the_query(terminal: Any) -> None:
    first, words = SCREENS["find"]
    _, shown = terminal(*words, first=first).end()
    red = re.findall(r"\x1b\[1;31m(.*?)\x1b\[0m", shown)
    assert {word.lower() for word in red} == {"operating", "margin"}
    assert len(red) >= 4
