"""The program's hints for library errors, which name no command and no option."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import nsa_models
from nsa_cli.output.hints import HINTS, hint_for
from nsa_models.errors import DoesNotFitError, ModelError, NsaError


def test_the_hint_of_an_error_takes_precedence() -> None:
    assert hint_for(ModelError("x", hint="do this", code="model_broken")) == "do this"


@pytest.mark.parametrize("code", sorted(HINTS))
def test_a_code_has_the_program_s_hint(code: str) -> None:
    assert hint_for(NsaError("x", code=code)) == HINTS[code]


def test_other_codes_have_no_hint() -> None:
    assert hint_for(NsaError("x")) == ""
    assert "--model" in hint_for(DoesNotFitError("too large"))


def test_every_error_without_a_hint_has_the_program_s() -> None:
    """Every error code that `nsa_models` raises without a hint has a hint here."""
    [root] = nsa_models.__path__
    for path in Path(root).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            if node.func.id not in ("NsaError", "UsageError", "ModelError", "DoesNotFitError"):
                continue
            given = {keyword.arg: keyword.value for keyword in node.keywords}
            if "hint" in given:
                continue
            code = given.get("code")
            known = "does_not_fit" if code is None else getattr(code, "value", None)
            assert known in HINTS, (path, node.lineno)
