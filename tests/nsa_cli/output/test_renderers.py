"""Output for people and programs: data on standard output, all else on standard error."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from nsa_cli.events import LOADING, AnswerFinished, AnswerText, Note, Progress
from nsa_cli.output.renderers import HumanRenderer, JsonRenderer, StatusLine, _Amount, duration
from nsa_cli.results import Citation, Stats
from nsa_models.errors import UsageError

STATS = Stats(
    document_tokens=30000,
    reused_tokens=1024,
    question_tokens=20,
    answer_tokens=7,
    load_seconds=1.5,
    prefill_seconds=52.04,
    time_to_first_token_seconds=2.26,
    decode_tokens_per_second=15.0,
    peak_memory_bytes=10**9,
    cache_bytes=1000,
    cache_bytes_touched=100,
)


def citation(**changes: Any) -> Citation:
    plain = {
        "source": "a.pdf",
        "page": 14,
        "page_label": "iv",
        "line_start": 3,
        "line_end": 3,
        "quote": "The pier\n  cost 4,200.",
        "verified": True,
        "score": 0.5,
    }
    return Citation(**{**plain, **changes})


def finished(*citations: Citation, reason: str = "stop") -> AnswerFinished:
    return AnswerFinished(
        answer="4,200 crowns",
        citations=citations,
        model="m",
        attention={"reading": {"window": 512}, "answering": {}},
        finish_reason=reason,
        stats=STATS,
    )


def show(*citations: Citation) -> None:
    HumanRenderer().finish(finished(*citations))


def test_an_answer_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    renderer = HumanRenderer()
    renderer(Note(text="using [bold]m[/bold]"))
    for piece in ("4,200", " crowns"):
        renderer(AnswerText(text=piece))
        assert capsys.readouterr().out == piece  # printed as it arrives
    renderer.finish(finished(citation(), citation(page_label=None, line_end=5, verified=False)))
    renderer.close()
    out, err = capsys.readouterr()
    assert out == (
        "\n\n[1] a.pdf, p. 14 (iv), line 3: “The pier cost 4,200.”\n"
        "[2] a.pdf, p. 14, lines 3-5: “The pier cost 4,200.” (not verified)\n"
    )
    assert err == ("nsa: 30,000 tokens, 28,976 of them read in 52.0 s; first word after 2.3 s\n")


def test_notes_are_printed_unchanged(capsys: pytest.CaptureFixture[str]) -> None:
    HumanRenderer()(Note(text="using [bold]m[/bold] " + "x" * 200))
    assert capsys.readouterr() == ("", "nsa: using [bold]m[/bold] " + "x" * 200 + "\n")


def test_a_text_file_has_only_lines(capsys: pytest.CaptureFixture[str]) -> None:
    show(citation(page=None, page_label=None))
    assert capsys.readouterr().out == "\n[1] a.pdf, line 3: “The pier cost 4,200.”\n"


def test_markup_in_a_quote_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    show(citation(quote="see [red]x[/red] and [1]"))
    assert "“see [red]x[/red] and [1]”" in capsys.readouterr().out


def test_emoji_names_in_a_quote_are_text(capsys: pytest.CaptureFixture[str]) -> None:
    show(citation(quote="ratio 3:1, :key: value, scope:link:page"))
    HumanRenderer()(Note(text="C:key:a"))
    out, err = capsys.readouterr()
    assert "“ratio 3:1, :key: value, scope:link:page”" in out
    assert "C:key:a" in err


def test_a_long_quote_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    show(citation(quote="word\n" * 100))
    line = capsys.readouterr().out.strip()
    assert "\n" not in line
    assert line.endswith("word …”")
    assert len(line) < 250


def test_a_truncated_answer_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    HumanRenderer().finish(finished(reason="length"))
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("nsa: --max-tokens cut the answer; raise it for more\n")


def test_quiet_prints_only_the_answer(capsys: pytest.CaptureFixture[str]) -> None:
    renderer = HumanRenderer(quiet=True)
    renderer(Note(text="a note"))
    renderer(AnswerText(text="yes"))
    renderer.finish(finished(reason="length"))
    assert capsys.readouterr() == ("yes\n", "")
    renderer.fail(UsageError("no"))
    assert "nsa: no" in capsys.readouterr().err


def test_a_failure_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    renderer = HumanRenderer()
    renderer.fail(UsageError("the question is [b]empty[/b]", hint="say what you want to know"))
    assert capsys.readouterr() == (
        "",
        "nsa: the question is [b]empty[/b]. Say what you want to know.\n",
    )
    renderer.fail(UsageError("it is so"))
    assert capsys.readouterr().err == "nsa: it is so\n"


def test_a_failure_with_control_characters_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    HumanRenderer().fail(UsageError("🦊 a\nb\udce9.txt does not exist"))
    assert capsys.readouterr().err == "nsa: 🦊 a\\nb\\udce9.txt does not exist\n"


def test_a_failure_inside_the_answer_starts_a_new_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    renderer = HumanRenderer()
    renderer(AnswerText(text="The pi"))
    renderer.fail(UsageError("it is so"))
    assert capsys.readouterr() == ("The pi\n", "nsa: it is so\n")


def test_a_hint_that_is_a_question_needs_no_period(capsys: pytest.CaptureFixture[str]) -> None:
    HumanRenderer().fail(UsageError("a.txt does not exist", hint="did you mean b.txt?"))
    assert capsys.readouterr().err == "nsa: a.txt does not exist. Did you mean b.txt?\n"


def test_one_object_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    renderer = JsonRenderer()
    renderer(Note(text="a note"))
    renderer(AnswerText(text="4,200"))
    renderer(Progress(task="Reading", done=1, total=2, unit="tokens"))
    assert capsys.readouterr() == ("", "nsa: a note\n")
    renderer.finish(finished(citation(quote="“ünïcode” 世界")))
    renderer.close()
    out, err = capsys.readouterr()
    assert err == ""
    shown = json.loads(out)
    assert shown["answer"] == "4,200 crowns"
    assert shown["citations"][0]["quote"] == "“ünïcode” 世界"
    assert shown["stats"]["reused_tokens"] == 1024
    assert shown["attention"]["reading"] == {"window": 512}


def test_a_failure_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    JsonRenderer().fail(UsageError("it is so", hint="do this"))
    out, err = capsys.readouterr()
    assert err == ""
    assert json.loads(out) == {"error": {"code": "usage", "message": "it is so", "hint": "do this"}}


@pytest.mark.parametrize("kind", [HumanRenderer, JsonRenderer])
def test_no_bar_without_a_terminal(kind: Any, capsys: pytest.CaptureFixture[str]) -> None:
    renderer = kind()
    for done in (0, 50, 100):
        renderer(Progress(task="Reading a", done=done, total=100, unit="tokens"))
    renderer.close()
    assert capsys.readouterr() == ("", "")


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """Text written to a simulated terminal on standard error."""
    screen = io.StringIO()

    def console(*, stderr: bool = False, **named: Any) -> Console:
        if not stderr:
            return Console(**named)
        return Console(
            file=screen, force_terminal=True, width=100, _environ={"TERM": "xterm"}, **named
        )

    monkeypatch.setattr("nsa_cli.output.renderers.Console", console)
    return screen


def visible(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


@pytest.mark.parametrize("kind", [HumanRenderer, JsonRenderer])
def test_a_bar_on_a_terminal(
    kind: Any, terminal: io.StringIO, capsys: pytest.CaptureFixture[str]
) -> None:
    renderer = kind()
    renderer(Progress(task="Reading a.pdf", done=0, total=30000, unit="tokens"))
    renderer(Progress(task="Reading a.pdf", done=1024, total=30000, unit="tokens"))
    renderer._status._bar.refresh()
    assert "Reading a.pdf" in visible(terminal.getvalue())
    assert "1,024 of 30,000 tokens" in visible(terminal.getvalue())
    renderer(Progress(task="Reading a.pdf", done=30000, total=30000, unit="tokens"))
    assert renderer._status._bar is None
    assert terminal.getvalue().endswith("\x1b[1A\x1b[2K")  # the bar's line is erased
    assert capsys.readouterr() == ("", "")


def test_one_bar_after_the_other(terminal: io.StringIO) -> None:
    renderer = HumanRenderer()
    renderer(Progress(task="Fetching m", done=5_000_000, total=491_400_064, unit="bytes"))
    renderer._status._bar.refresh()  # type: ignore[union-attr]
    renderer(Progress(task="Opening a.pdf", done=1, total=9, unit="pages"))
    renderer._status._bar.refresh()  # type: ignore[union-attr]
    shown = visible(terminal.getvalue())
    assert "5 of 491 MB" in shown
    assert "1 of 9 pages" in shown
    renderer.close()
    assert renderer._status._bar is None


def test_the_answer_erases_the_bar(
    terminal: io.StringIO, capsys: pytest.CaptureFixture[str]
) -> None:
    renderer = HumanRenderer()
    renderer(Progress(task="Reading a", done=1, total=9, unit="tokens"))
    renderer(AnswerText(text="Yes"))
    assert renderer._status._bar is None
    assert terminal.getvalue().endswith("\x1b[1A\x1b[2K")
    assert capsys.readouterr().out == "Yes"


def test_finished_work_shows_no_bar(terminal: io.StringIO) -> None:
    renderer = HumanRenderer()
    renderer(Progress(task="Reading a", done=9, total=9, unit="tokens"))
    assert terminal.getvalue() == ""


def test_quiet_shows_no_bar(terminal: io.StringIO) -> None:
    renderer = HumanRenderer(quiet=True)
    renderer(Progress(task="Reading a", done=1, total=9, unit="tokens"))
    renderer.close()
    assert terminal.getvalue() == ""


def test_several_answers_have_one_line_of_figures(capsys: pytest.CaptureFixture[str]) -> None:
    later = replace(finished(), stats=replace(STATS, time_to_first_token_seconds=1.04))
    HumanRenderer().finish_all(["Who?", "When?"], [finished(citation()), later])
    out, err = capsys.readouterr()
    assert out.count("Q: ") == 2
    assert err == (
        "nsa: 30,000 tokens, 28,976 of them read in 52.0 s; first words after 2.3, 1.0 s\n"
    )


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (37.2, "37 s"), (99.4, "99 s"), (100, "2 min"), (5999, "1 h 40 min")],
)
def test_durations_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "12,400 of 23,039 tokens, 290/s, 37 s left"),
        ({"speed": None, "time_remaining": None}, "12,400 of 23,039 tokens"),
        ({"fields": {"unit": "bytes"}, "speed": 2e6, "completed": 12.4e6, "total": 23e6},
         "12 of 23 MB, 2/s, 37 s left"),
    ],
)  # fmt: skip
def test_the_amount_of_a_bar(changes: dict[str, Any], words: str) -> None:
    task = {
        "completed": 12400,
        "total": 23039,
        "speed": 290.2,
        "time_remaining": 36.7,
        "finished": False,
        "fields": {"unit": "tokens"},
    }
    assert str(_Amount().render(SimpleNamespace(**{**task, **changes}))) == words  # type: ignore[arg-type]


def test_stages_and_progress_take_turns_at_a_terminal() -> None:
    screen = io.StringIO()
    status = StatusLine(quiet=False)
    status.console = Console(file=screen, force_terminal=True, width=100)
    status.animate = True
    status.stage(LOADING)
    status.stage(LOADING)
    status.progress(Progress(task="Reading [b]", done=40, total=100, unit="tokens"))
    status.progress(Progress(task="Reading [b]", done=60, total=100, unit="tokens"))
    status.close()
    shown = screen.getvalue()
    assert shown.index("Loading the model") < shown.index("Reading [b]")
    assert "40 of 100 tokens" in shown
    assert shown.endswith("\x1b[2K")


def fetching(done: int, *, beside: bool = True) -> Progress:
    return Progress(
        task="Fetching m", done=done * 10**6, total=5 * 10**6, unit="bytes", beside=beside
    )


def test_a_task_beside_others_has_a_line_below_theirs() -> None:
    status = StatusLine(quiet=False)
    status.console = Console(file=io.StringIO(), force_terminal=True, width=100)
    status.animate = True

    def drawn() -> list[str]:
        assert status._bar is not None
        page = io.StringIO()
        Console(file=page, width=100).print(status._bar.get_renderable())
        return page.getvalue().splitlines()

    status.progress(fetching(1))  # nothing else is shown yet
    assert status._bar is None
    status.progress(Progress(task="Reading a", done=40, total=100, unit="tokens"))
    [reading, fetched] = drawn()
    assert reading.startswith("Reading a")
    assert fetched.startswith("Fetching m")
    assert "1 of 5 MB" in fetched
    status.progress(fetching(2))
    assert "2 of 5 MB" in drawn()[1]
    status.stage(LOADING)
    [loading, fetched] = drawn()
    assert "Loading the model" in loading
    assert "Fetching m: 2 of 5 MB" in fetched
    status.progress(fetching(5))
    assert len(drawn()) == 1
    status.progress(fetching(3))
    status.progress(fetching(4, beside=False))  # the command waits for it
    [line] = drawn()
    assert "4 of 5 MB" in line
    status.close()


@pytest.mark.parametrize("width", [40, 60, 80, 96, 120])
def test_progress_takes_one_line_at_a_terminal(width: int) -> None:
    screen = io.StringIO()
    status = StatusLine(quiet=False)
    status.console = Console(file=screen, force_terminal=True, width=width)
    status.animate = True
    task: dict[str, Any] = {
        "task": "Reading examples/fhs-3.0.pdf",
        "total": 123_456,
        "unit": "tokens",
    }
    status.progress(Progress(done=12_345, **task))
    assert status._bar is not None
    drawn = Console(file=io.StringIO(), width=width)
    drawn.print(status._bar.get_renderable())
    status.close()
    [line] = drawn.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert len(line) <= width
    assert width < 80 or "12,345 of 123,456 tokens" in line


def test_stages_are_for_terminals_alone(capsys: pytest.CaptureFixture[str]) -> None:
    renderer = HumanRenderer()
    renderer(LOADING)
    renderer.close()
    assert capsys.readouterr() == ("", "")
