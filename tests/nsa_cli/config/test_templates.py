"""Named questions in the settings files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nsa_cli.config.files import PROJECT_FILE, user_file
from nsa_cli.config.settings import effective
from nsa_cli.config.templates import read_templates, template
from nsa_models.errors import UsageError

Run = Callable[..., tuple[int, str, str]]

SOUND = """
device = "cpu"

[templates]
parties = "Who are the parties?"

[templates.risks]
questions = ["Which risks of $what are named?", "Who bears them, at $$5?"]
system = "Answer in $language."
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a settings file."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / PROJECT_FILE).write_text(SOUND)
    monkeypatch.chdir(folder)
    return folder / PROJECT_FILE


def test_settings_and_templates_share_a_file(project: Path) -> None:
    assert list(effective()) == ["device"]
    found = read_templates()
    assert list(found) == ["parties", "risks"]
    assert found["parties"].questions == ("Who are the parties?",)
    assert {setting.origin for setting in found.values()} == {str(project)}


def test_values_are_filled_in() -> None:
    project = Path(PROJECT_FILE)
    assert not project.exists()
    user_file().parent.mkdir(parents=True, exist_ok=True)
    user_file().write_text(SOUND)
    found = template("risks", ["what=fire", "language=German=x"])
    assert found.questions == ("Which risks of fire are named?", "Who bears them, at $5?")
    assert found.system == "Answer in German=x."


@pytest.mark.parametrize(
    ("name", "pairs", "message", "hint"),
    [
        ("risk", [], "no template 'risk'", "did you mean risks?"),
        ("risks", [], "template risks: no value for language, what", "add -p language=… -p what=…"),
        ("parties", ["what=x"], "template parties has no $what", "leave out -p what"),
        ("risks", ["what"], "-p what has no value", "write -p name=value"),
    ],
)
@pytest.mark.usefixtures("project")
def test_invalid_use(name: str, pairs: list[str], message: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        template(name, pairs)
    assert (caught.value.message, caught.value.hint) == (message, hint)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("templates = 3", "templates must be a table"),
        ("[templates]\na = 3", "template a must be text or a table"),
        ("[templates]\na = ''", "template a has no question"),
        ("[templates.a]\nquestions = []", "template a has no question"),
        ("[templates.a]\nquestions = ['x', 3]", "template a has no question"),
        ("[templates.a]\nquestion = 'x'\nquestions = ['y']", "template a has no question"),
        ("[templates.a]\nquestion = 'x'\nsystem = 3", "template a: system must be text"),
        ("[templates.a]\nquestion = 'x'\nsytem = 'y'", "template a: unknown key 'sytem'"),
    ],
)
def test_invalid_templates(project: Path, written: str, expected: str) -> None:
    project.write_text(written)
    for read in (read_templates, effective):
        with pytest.raises(UsageError, match=expected):
            read()


def test_a_dollar_sign_without_a_name(project: Path) -> None:
    project.write_text("[templates]\ncost = 'What costs $5?'\n")
    with pytest.raises(UsageError, match=r"\$ without a name"):
        template("cost", [])


@pytest.mark.usefixtures("project")
def test_ask(nsa: Run, text_file: Path) -> None:
    code, out, _ = nsa("ask", str(text_file), "-t", "parties", "--json")
    assert code == 0
    plain = json.loads(nsa("ask", str(text_file), "Who are the parties?", "--json")[1])
    assert json.loads(out)["answer"] == plain["answer"]
    more = ("-p", "what=fire", "-p", "language=Latin")
    code, out, _ = nsa("ask", str(text_file), "-t", "risks", *more, "-a", "When?", "--json")
    questions = [answer["question"] for answer in json.loads(out)["answers"]]
    assert questions == ["When?", "Which risks of fire are named?", "Who bears them, at $5?"]
    assert nsa("ask", str(text_file), "Who?", "-p", "what=x")[0] == 2
    assert nsa("ask", str(text_file), "-t", "none")[0] == 2


@pytest.mark.usefixtures("project")
def test_precedence_of_instructions(
    nsa: Run, text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def spied(*arguments: Any) -> None:
        seen.append(arguments[2].system)
        raise UsageError("seen", hint="")

    monkeypatch.setattr("nsa_cli.answering.ask.ask", spied)
    monkeypatch.setenv("NSA_SYSTEM", "Be brief.")
    risks = ("-t", "risks", "-p", "what=fire", "-p", "language=Latin")
    nsa("ask", str(text_file), "Who?")
    nsa("ask", str(text_file), *risks)
    nsa("ask", str(text_file), *risks, "--system", "Be long.")
    nsa("ask", str(text_file), "-t", "parties")
    assert seen == ["Be brief.", "Answer in Latin.", "Be long.", "Be brief."]


@pytest.mark.usefixtures("project")
def test_batch(nsa: Run, text_file: Path) -> None:
    code, out, _ = nsa("batch", str(text_file), "-t", "parties")
    assert code == 0
    assert [json.loads(line)["question"] for line in out.splitlines()] == ["Who are the parties?"]


@pytest.mark.usefixtures("project")
def test_config(nsa: Run) -> None:
    assert "templates.parties" in nsa("config", "list")[1]
    assert nsa("config", "get", "templates.risks")[1].startswith(
        "Which risks of $what are named?\n"
    )
    code, _, err = nsa("config", "set", "templates.new", "Is it new?", "--project")
    assert code == 0
    assert "set templates.new to Is it new?" in err
    assert template("new", []).questions == ("Is it new?",)
    assert effective()["device"].value == "cpu"
    assert nsa("config", "set", "templates.new", " ", "--project")[0] == 2
    assert nsa("config", "unset", "templates.new", "--project")[0] == 0
    assert list(read_templates()) == ["parties", "risks"]
    assert nsa("config", "unset", "templates.new", "--project")[0] == 1
    assert nsa("config", "get", "templates.new")[0] == 2
    assert nsa("config", "set", "templates.mine", "Is it mine?")[0] == 0
    assert template("mine", []).origin == str(user_file())
