"""Shared options: one declaration each, equal in every command."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import typer

from nsa_cli.cli import options, values
from nsa_cli.cli.app import app
from nsa_cli.cli.command import without_ranges
from nsa_cli.cli.doctor import Finding
from nsa_cli.config.options import Options
from nsa_cli.config.settings import DEFINITIONS, YES_NO
from nsa_models.errors import UsageError
from nsa_models.model_folder import SHIPPED


def commands() -> dict[str, Any]:
    """All commands by name; a group's commands include the group's name."""
    found: dict[str, Any] = {}
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        inner = getattr(command, "commands", {None: command})
        found |= {f"{name} {each}" if each else name: inner[each] for each in inner}
    return found


def declared(command: Any) -> dict[str, Any]:
    return {
        option.opts[0]: (option.metavar, option.help, option.rich_help_panel)
        for option in command.params
        if option.param_type_name == "option"
    }


@pytest.mark.parametrize("name", ["ask", "find", "summarize", "chat", "batch", "serve"])
def test_an_option_is_the_same_in_every_command(name: str) -> None:
    shared = declared(commands()["ask"])
    here = declared(commands()[name])
    assert {flag: here[flag] for flag in here.keys() & shared.keys()} == {
        flag: shared[flag] for flag in here.keys() & shared.keys()
    }
    assert {"--model", "--device", "--memory", "--quiet"} <= here.keys() & shared.keys()


def test_every_option_has_help_and_a_metavar() -> None:
    for name, command in commands().items():
        for option in command.params:
            assert option.help, (name, option.name)
            switch = getattr(option, "is_flag", False)
            assert switch or option.metavar, (name, option.name)


def test_every_setting_is_an_option() -> None:
    params = {
        option.name: option
        for name in ("find", "summarize", "ask")
        for option in commands()[name].params
    }
    for name, definition in DEFINITIONS.items():
        assert name in params
        if definition.choices == YES_NO:
            assert getattr(params[name], "is_flag", False)
        elif definition.choices:
            number = ["WORDS"] if definition.numbers else []
            assert params[name].metavar == "|".join([*definition.choices, *number])


def test_help_shows_common_options_and_names_the_other_groups(nsa: Any) -> None:
    code, out, _ = nsa("ask", "--help", model=None)
    assert code == 0
    assert len(out.splitlines()) <= 30
    assert "--help-all" in out
    assert "Reading, Answering, Model and machine" in " ".join(out.split())
    for option in ("--temperature", "--device", "--yarn", "--password"):
        assert option not in out
    for option in ("--ask", "--model", "--pages", "--json", "--quiet"):
        assert re.search(rf"-[A-Za-z], {option}\b", out)


def test_help_all_as_a_value_is_a_question(nsa: Any) -> None:
    assert nsa("ask", "/none.txt", "-a", "--help-all")[0] == 3
    assert nsa("--help-all", model=None)[1] == nsa("--help", model=None)[1]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("About.  [default: 256; x>=1]", "About.  [default: 256]"),
        ("About.  [default: (the whole text); x>=1]", "About.  [default: the whole text]"),
        ("About.  [x>=0.0]", "About."),
        ("Port.  [default: 8765; 0<=x<=65535]", "Port.  [default: 8765]"),
        ("About [a thing].", "About [a thing]."),
    ],
)
def test_help_shows_no_ranges(text: str, shown: str) -> None:
    assert without_ranges(text) == shown


def test_the_same_option_means_the_same_everywhere() -> None:
    """`-f` alone stands for two options, as in `tail -f` and `rm -f`."""
    letters: dict[str, str] = {}
    texts: dict[str, set[str]] = {}
    for command in commands().values():
        for option in command.params:
            if option.param_type_name != "option":
                continue
            texts.setdefault(option.opts[0], set()).add(option.help)
            for letter in option.opts[1:]:
                assert letters.setdefault(letter, option.opts[0]) == option.opts[0] or (
                    letter == "-f" and option.opts[0] in ("--force", "--follow")
                )
    for flag in ("--temperature", "--seed", "--dry-run", "--quiet", "--json", "--model", "--pages"):
        assert len(texts[flag]) == 1, flag
    assert len([letter for letter in letters if letter != "-h"]) >= 5


def test_questions_and_summaries_are_sampled_alike() -> None:
    for name in ("ask", "chat", "batch", "summarize"):
        assert {"--temperature", "--seed"} <= declared(commands()[name]).keys()
    for name in ("ask", "find", "summarize", "batch"):
        assert "--dry-run" in declared(commands()[name])


def test_a_dry_run_reads_nothing(nsa: Any, text_file: Any, asker: Any) -> None:
    for words in (("find", str(text_file), "worker"), ("summarize", str(text_file))):
        code, out, _ = nsa(*words, "--dry-run")
        assert code == 0
        assert out.startswith("tokens   ")
    assert not asker.readings


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "NSA_MODLE",
            "nsa: unknown variable NSA_MODLE has no effect; did you mean NSA_MODEL?\n",
        ),
        ("NSA_ZZZ", "nsa: unknown variable NSA_ZZZ has no effect\n"),
        ("NSA_API_KEY", ""),
    ],
)
def test_unknown_variables_are_told(
    nsa: Any, monkeypatch: pytest.MonkeyPatch, name: str, said: str
) -> None:
    monkeypatch.setenv(name, "x")
    assert nsa("config", "path")[2] == said
    assert nsa("config", "list", "--json")[2] == ""


def test_help_shows_panels_in_order(nsa: Any) -> None:
    _, out, _ = nsa("ask", "--help-all", model=None)
    titles = [
        line.removesuffix(" options:") for line in out.splitlines() if line[-9:] == " options:"
    ]
    assert tuple(titles) == options.PANELS
    assert "{QUESTION}" not in out
    assert "<" not in out


def test_a_command_receives_its_options() -> None:
    seen: list[tuple[Options, int]] = []

    @options.takes("quantize", "no_adapter", "memory", max_tokens=48)
    def command(opts: Options, top: int = 3) -> None:
        seen.append((opts, top))

    command(top=4, quantize="int8", no_adapter=True, memory=1.5, max_tokens=9)
    [(opts, top)] = seen
    assert (opts.quantization, opts.adapter, opts.memory_bytes) == ("int8", None, 1_500_000_000)
    assert (opts.max_tokens, opts.cache_limit_bytes, top) == (9, 20 * 10**9, 4)


def test_the_command_line_has_the_program_s_defaults() -> None:
    opts = options.SharedOptions().options()
    assert opts.adapter == SHIPPED
    for field in fields(Options):
        if field.name not in ("model", "cache_limit_bytes"):
            assert getattr(opts, field.name) == field.default


@pytest.mark.parametrize(
    ("given", "expected"), [("auto", None), ("none", "none"), ("int8", "int8")]
)
def test_the_machine_chooses_the_weights_unless_they_are_named(
    given: str, expected: str | None
) -> None:
    assert options.SharedOptions(quantize=given).options().quantization == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"adapter": "a", "no_adapter": True}, "--adapter conflicts with --no-adapter"),
        ({"device": "tpu"}, "invalid value for --device: 'tpu'"),
        ({"quantize": "int3"}, "invalid value for --quantize: 'int3'"),
        ({"attention": "full"}, "invalid value for --attention: 'full'"),
        ({"pages": "3-1"}, "invalid value for --pages: '3-1'"),
    ],
)
def test_invalid_values(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        options.SharedOptions(**given).options()
    assert caught.value.message.startswith(message)
    assert caught.value.hint


@pytest.mark.parametrize(("text", "found"), [("1", [1]), ("8192,30000", [8192, 30000])])
def test_numbers(text: str, found: list[int]) -> None:
    assert values.numbers("--lengths", text) == found


@pytest.mark.parametrize("text", ["", "4k", "0", "1,-2", "1,,2"])
def test_invalid_numbers(text: str) -> None:
    with pytest.raises(UsageError, match="invalid value for --lengths"):
        values.numbers("--lengths", text)


NOTING = (
    *("bench read", "bench kernels", "train", "doctor"),
    *("cache list", "cache size", "cache rm", "cache prune"),
    *("models pull", "models add", "models rm", "config list", "config set", "config unset"),
)


@pytest.mark.parametrize("name", NOTING)
def test_commands_that_write_notes_can_be_quiet(name: str) -> None:
    quiet = declared(commands()["ask"])["--quiet"]
    assert {*quiet} <= {*declared(commands()[name])["--quiet"]}


def test_quiet_commands_write_no_notes(nsa: Any, tiny_model: Path) -> None:
    for flags in (("-q",), ()):
        for words in (
            ("cache", "list"),
            ("cache", "size"),
            ("cache", "prune"),
            ("models", "add", "mine", str(tiny_model)),
            ("models", "rm", "mine"),
            ("config", "list"),
            ("config", "set", "max_tokens", "400"),
            ("config", "unset", "max_tokens"),
        ):
            code, _, err = nsa(*words, *flags)
            assert (code, bool(err)) == (0, not flags), words


def test_a_quiet_doctor_names_problems_only(nsa: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [
        Finding(what="memory", state="ok", found="20 GB free"),
        Finding(what="kernels", state="warning", found="no triton", remedy="install it"),
    ]
    monkeypatch.setattr("nsa_cli.cli.doctor.examine", lambda **_: found)
    assert "20 GB free" in nsa("doctor")[1]
    code, out, _ = nsa("doctor", "-q")
    assert code == 0
    assert "no triton" in out
    assert "20 GB free" not in out


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("model", "{file}", "is neither a folder nor a .gguf file. Name a folder, a .gguf file"),
        ("answer_model", "{file}", "is neither a folder nor a .gguf file"),
        ("device", "cuda", "this machine has no CUDA device. Set device to auto, which is cuda"),
        ("temperature", "-1", "temperature must be a number of at least 0, got '-1'"),
        ("templates.price", "What costs $?", "$ without a name"),
        ("templates.price", "What costs ${it", "$ without a name"),
    ],
)
def test_a_value_that_cannot_work_is_not_set(
    nsa: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    key: str,
    value: str,
    message: str,
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    file = tmp_path / "notes.txt"
    file.write_text("Ann wrote it.\n")
    code, out, err = nsa("config", "set", key, value.format(file=file) if "{f" in value else value)
    assert code in (1, 2)
    assert out == ""
    assert message in err
    assert nsa("config", "get", key)[0] != 0


def test_a_device_of_this_machine_is_set(nsa: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert nsa("config", "set", "device", "cuda")[0] == 0
    assert nsa("config", "get", "device")[1] == "cuda\n"
