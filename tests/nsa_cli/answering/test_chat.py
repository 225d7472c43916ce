"""`nsa chat` in a pipe and at a terminal, and its commands."""

from __future__ import annotations

import io
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nsa_cli.cli.chat import join_lines
from nsa_cli.engine.open_document import OpenDocument

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def talk(nsa: Run, text_file: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """A function that types lines into a chat about a text."""

    def typed(*lines: str, more: tuple[str, ...] = ()) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
        return nsa("chat", str(text_file), *more)

    return typed


def test_questions_in_a_pipe(talk: Callable[..., Any], text_file: Path) -> None:
    code, out, err = talk("Who wrote it?", "", "And when?")
    assert code == 0
    assert out.count(f"[1] {text_file}, line") == 2
    assert "> " not in out + err


def test_the_first_answer_equals_ask(talk: Callable[..., Any], nsa: Run, text_file: Path) -> None:
    _, asked, _ = nsa("ask", str(text_file), "Who wrote it?", "--no-store")
    _, said, _ = talk("Who wrote it?", more=("--no-store",))
    assert said == asked


def test_later_questions_see_the_earlier_ones(
    talk: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []
    real = __import__("nsa_cli.context.prompt", fromlist=["PromptBuilder"]).PromptBuilder.question

    def spied(self: Any, question: str, earlier: Any = (), *more: Any) -> Any:
        if earlier:
            seen.append([asked for asked, _ in earlier])
        return real(self, question, earlier, *more)

    monkeypatch.setattr("nsa_cli.context.prompt.PromptBuilder.question", spied)
    talk("one?", "two?", "three?", "four?", "five?", "/clear", "six?")
    assert ["one?"] in seen
    assert ["two?", "three?", "four?"] in seen  # the last three questions
    assert all(len(earlier) <= 3 for earlier in seen)
    assert not any("five?" in earlier for earlier in seen)


def test_a_short_question_is_retrieved_with_the_previous_one(
    talk: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_up: list[str] = []
    real = OpenDocument.scores

    def spied(self: OpenDocument, question: Any) -> Any:
        looked_up.append(question.text)
        return real(self, question)

    monkeypatch.setattr(OpenDocument, "scores", spied)
    talk("Who wrote it?", "And when?", "Why did the worker die?", "/clear", "And when?")
    assert looked_up == [
        "Who wrote it?",
        "Who wrote it? And when?",
        "Why did the worker die?",
        "And when?",
    ]


def test_sources_and_help(talk: Callable[..., Any], text_file: Path) -> None:
    code, out, _ = talk("/sources", "/help", "/quit", "never asked")
    assert code == 0
    assert out.splitlines()[0] == str(text_file)
    assert out.splitlines()[1].endswith(" tokens")
    assert "/save FILE" in out
    assert "[1]" not in out


def test_a_citation_with_surrounding_lines(talk: Callable[..., Any], text_file: Path) -> None:
    code, out, err = talk("/cite", "Who wrote it?", "/cite 1", "/cite 9")
    assert code == 0
    assert "no citation yet" in err
    assert "no citation 9" in err
    shown = [line[2:] for line in out.splitlines() if line.startswith("  The worker")]
    lines = text_file.read_text().splitlines()
    start = lines.index(shown[0])
    assert shown == lines[start : start + len(shown)]
    assert 3 <= len(shown) <= 6


def test_saving(talk: Callable[..., Any], tmp_path: Path) -> None:
    plain, machine = tmp_path / "a b.md", tmp_path / "a.json"
    _, out, err = talk(
        "/save", f"/save {plain}", "Who?", f"/save {plain}", f"/save {machine}", f"/save {plain}"
    )
    assert "/save needs a file name" in err
    assert "nothing to save yet" in err
    assert f"{plain} already exists" in err
    assert "**Who?**" in plain.read_text()
    [turn] = json.loads(machine.read_text())["turns"]
    assert turn["question"] == "Who?"
    assert turn["answer"] in out


def test_refused_commands(talk: Callable[..., Any], nsa: Run) -> None:
    code, _, err = talk("/what", "word " * 3000)
    assert code == 0
    assert "unknown command /what. See /help." in err
    assert "the question is too long" in err
    assert nsa("chat", "-")[0] == 2
    assert nsa("chat")[0] == 2
    assert nsa("chat", "missing.txt")[0] == 3


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        (["one"], "one"),
        (["one\\", "two"], "one\ntwo"),
        (['"""one', "", 'two"""'], "one\n\ntwo"),
        (['"""', "one", '"""'], "one"),
    ],
)
def test_texts_of_several_lines(lines: list[str], text: str) -> None:
    given = iter(lines)
    assert join_lines(lambda _: next(given)) == text
    assert list(given) == []


def test_at_a_terminal(
    terminal: Any, text_file: Path, tiny_model: Path, cache_folder: Path
) -> None:
    named = ("--model", str(tiny_model), "--max-tokens", "2000")
    chat = terminal("chat", str(text_file), *named, TERM="dumb")
    chat.read_until("commands\r\n> ")
    chat.type("Who wrote it?\n")
    chat.read_until("Who wrote it?\r\n")
    chat.read_more()  # the answer has begun
    chat.type("\x03")
    chat.read_until("stopped; Ctrl-D or /quit ends the chat\r\n> ")
    chat.type("half a line")
    chat.read_until("half a line")
    time.sleep(0.5)  # Python's readline misses a Ctrl-C during the handling of a key
    chat.type("\x03")
    chat.read_until("\r\n> ")
    chat.type("/sources\n")
    chat.read_until(" tokens\r\n> ")
    assert str(text_file) in chat.shown
    chat.type("\x04")
    code, shown = chat.end()
    assert code == 0
    assert "Traceback" not in shown
    history = cache_folder / "chat_history"
    assert "Who wrote it?" in history.read_text()
    assert history.stat().st_mode & 0o077 == 0


def test_commands_fit_a_narrow_terminal(terminal: Any, text_file: Path, tiny_model: Path) -> None:
    named = ("--model", str(tiny_model), "--max-tokens", "4")
    chat = terminal("chat", str(text_file), *named, TERM="dumb", columns=40)
    chat.read_until("commands\r\n> ")
    chat.type("/help\n")
    shown = chat.read_until("/quit       quit; so does Ctrl-D\r\n> ")
    assert "/cite N     show citation N of the last\r\n            answer, with the lines" in shown
    chat.type("\x04")
    assert chat.end()[0] == 0
