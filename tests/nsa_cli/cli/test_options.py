"""Shared options: one declaration each, equal in every command."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
import typer

from nsa_cli.cli import options, values
from nsa_cli.cli.app import app
from nsa_cli.config.options import Options
from nsa_cli.config.settings import DEFINITIONS
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
        if definition.choices:
            assert params[name].metavar == "|".join(definition.choices)


def test_help_shows_panels_in_order(nsa: Any) -> None:
    _, out, _ = nsa("ask", "--help", model=None)
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
    ("given", "message"),
    [
        ({"adapter": "a", "no_adapter": True}, "--adapter conflicts with --no-adapter"),
        ({"device": "tpu"}, "invalid value for --device: 'tpu'"),
        ({"quantize": "int4"}, "invalid value for --quantize: 'int4'"),
        ({"attention": "full"}, "invalid value for --attention: 'full'"),
        ({"pages": "3-1"}, "--pages"),
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
