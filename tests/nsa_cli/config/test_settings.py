"""Settings: flags, then variables, then the project's file, then the user's."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsa_cli.config import settings
from nsa_cli.config.settings import DEFINITIONS, check
from nsa_models.errors import UsageError

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project" / "inner"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    return folder.parent


def test_precedence(nsa: Run, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings.effective() == {}
    nsa("config", "set", "device", "cpu")
    assert settings.effective()["device"].scope == "user"
    (project / ".nsa.toml").write_text('device = "auto"\nmax_tokens = 9\n')
    assert settings.effective()["device"].value == "auto"
    monkeypatch.setenv("NSA_DEVICE", "cuda")
    found = settings.effective()
    assert (found["device"].value, found["device"].origin) == ("cuda", "NSA_DEVICE")
    assert found["max_tokens"].value == 9
    _, out, _ = nsa("config", "list", "--json")
    assert json.loads(out)["settings"]["device"] == {
        "value": "cuda",
        "origin": "NSA_DEVICE",
        "scope": "environment",
    }


def test_settings_work_like_flags(
    nsa: Run, project: Path, text_file: Path, monkeypatch: pytest.MonkeyPatch, tiny_model: Path
) -> None:
    (project / ".nsa.toml").write_text(f"max_tokens = 3\nmodel = {json.dumps(str(tiny_model))}\n")

    def tokens(*flags: str) -> int:
        code, out, err = nsa("ask", str(text_file), "Who?", "--json", *flags, model=None)
        assert code == 0, err
        return int(json.loads(out)["stats"]["answer_tokens"])

    assert tokens() == 3
    monkeypatch.setenv("NSA_MAX_TOKENS", "4")
    assert tokens() == 4
    assert tokens("--max-tokens", "5") == 5


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("modle = 'x'", "unknown setting 'modle'"),
        ("max_tokens = 'many'", "max_tokens must be a whole number of at least 1, got 'many'"),
        ("device = 'tpu'", "device must be auto, cpu or cuda, got 'tpu'"),
        ("temperature = true", "temperature must be a number of at least 0, got True"),
        ("[ask]", "unknown setting 'ask'"),
        ("= x", "cannot be read"),
    ],
)
def test_an_invalid_file_is_reported(
    nsa: Run, project: Path, text_file: Path, text: str, expected: str
) -> None:
    (project / ".nsa.toml").write_text(text)
    code, out, err = nsa("ask", str(text_file), "Who?", model=None)
    assert (code, out) == (2, "")
    assert expected in err
    assert len(err.splitlines()) == 1
    assert nsa("--version")[0] == 0
    assert nsa("ask", "--help", model=None)[0] == 0
    assert nsa("doctor")[0] == 1


def test_set_keeps_comments_and_unset_removes(nsa: Run, project: Path) -> None:
    path = project / ".nsa.toml"
    path.write_text('# ours\nmodel = "a"  # for now\n')
    assert nsa("config", "set", "--project", "max_tokens", "12")[0] == 0
    assert path.read_text() == '# ours\nmodel = "a"  # for now\nmax_tokens = 12\n'
    assert nsa("config", "get", "max_tokens") == (0, "12\n", "")
    assert nsa("config", "unset", "--project", "max_tokens")[0] == 0
    assert path.read_text() == '# ours\nmodel = "a"  # for now\n'
    code, _, err = nsa("config", "unset", "--project", "max_tokens")
    assert code == 1
    assert "max_tokens is not set" in err
    assert nsa("config", "get", "top")[0] == 1
    assert nsa("config", "set", "tpo", "1")[0] == 2
    assert nsa("config", "path", "--project") == (0, f"{path}\n", "")


@given(st.sampled_from(sorted(DEFINITIONS)), st.one_of(st.text(), st.integers(), st.floats()))
def test_any_value_is_checked(name: str, value: object) -> None:
    try:
        found = check(name, value, "here")
    except UsageError as error:
        assert str(error).startswith(f"here: {name} must be ")  # noqa: PT017
    else:
        assert type(found) is DEFINITIONS[name].kind


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("model", "foo"), "unknown model 'foo'"),
        (("model", "/none/a.gguf"), "no model at /none/a.gguf"),
        (("model", "./none"), "no model at ./none"),
        (("device", "tpu"), "device must be auto, cpu or cuda"),
        (("max_tokens", "0"), "max_tokens must be a whole number of at least 1"),
        (("temperature", "-1"), "temperature must be a number of at least 0"),
    ],
)
def test_set_checks_the_value(nsa: Run, words: tuple[str, str], said: str) -> None:
    code, _, err = nsa("config", "set", "--", *words)
    assert code in (1, 2)
    assert said in err
    assert nsa("config", "get", words[0])[0] == 1


def test_set_takes_models_that_exist(nsa: Run, tiny_model: Path) -> None:
    for model in ("smollm2-135m", str(tiny_model), "owner/name"):
        assert nsa("config", "set", "model", model)[0] == 0
        assert nsa("config", "get", "model")[1] == f"{model}\n"


def test_list_all_shows_defaults_and_allowed_values(nsa: Run) -> None:
    assert nsa("config", "set", "top", "5")[0] == 0
    _, out, _ = nsa("config", "list", "--all")
    rows = {line.split()[0]: " ".join(line.split()) for line in out.splitlines()}
    assert rows.keys() == {"KEY", *DEFINITIONS}
    assert rows["device"].startswith("device auto default auto, cpu or cuda ")
    assert rows["memory"].startswith("memory 0.7 of the free memory default a number of at least 0")
    assert rows["top"].startswith("top 5 /")
    shown = json.loads(nsa("config", "list", "--all", "--json")[1])["all"]
    assert shown["length"] == {
        "value": "medium",
        "from": "default",
        "allowed": "short, medium or long, or a whole number of at least 20",
        "meaning": "length of a summary, in words or by name",
    }


@pytest.mark.parametrize(("value", "known"), [("short", "short"), ("300", "300"), (300, "300")])
def test_a_length_may_be_a_number(value: str | int, known: str) -> None:
    assert check("length", value) == known


@pytest.mark.parametrize("value", ["19", "-30", "3e2", "huge", 19, True])
def test_other_lengths_are_refused(value: str | int) -> None:
    with pytest.raises(UsageError, match="length must be short, medium or long, or a whole number"):
        check("length", value)
