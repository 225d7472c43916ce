"""Hints of the program for errors of the libraries, which name no command and no option."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import nsa_kernels
import nsa_models
from nsa_cli.output.hints import HINTS, hint_for
from nsa_models.errors import DoesNotFitError, ModelError, NsaError

_PROGRAM = re.compile(
    r"(?<![\w-])--[a-z]|\bnsa (ask|train|models|chat|find|batch|serve|eval|bench)\b"
)


def test_an_error_s_own_hint_comes_first() -> None:
    assert hint_for(ModelError("x", hint="do this", code="model_broken")) == "do this"


@pytest.mark.parametrize("code", sorted(HINTS))
def test_a_code_has_the_program_s_hint(code: str) -> None:
    assert hint_for(NsaError("x", code=code)) == HINTS[code]


def test_other_codes_have_none() -> None:
    assert hint_for(NsaError("x")) == ""
    assert "--model" in hint_for(DoesNotFitError("too large"))


@pytest.mark.parametrize("package", [nsa_models, nsa_kernels])
def test_libraries_name_no_command_and_no_option(package: object) -> None:
    """In no string, docstrings included; pip's own options aside."""
    [root] = package.__path__  # type: ignore[attr-defined]
    for path in Path(root).rglob("*.py"):
        if path.name == "pip_download.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert not _PROGRAM.search(node.value), (path, node.value)


def test_every_error_without_a_hint_has_the_program_s() -> None:
    """Each code with which `nsa_models` raises an error without a hint is known here."""
    [root] = nsa_models.__path__
    for path in Path(root).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            if node.func.id not in ("NsaError", "UsageError", "ModelError", "DoesNotFitError"):
                continue
            given = {each.arg: each.value for each in node.keywords}
            if "hint" in given:
                continue
            code = given.get("code")
            known = "does_not_fit" if code is None else getattr(code, "value", None)
            assert known in HINTS, (path, node.lineno)
