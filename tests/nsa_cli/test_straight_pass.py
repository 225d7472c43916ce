"""A question passes through the program's rooms in order and seldom returns to one."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nsa_cli
from nsa_cli.answering.ask import ask
from nsa_cli.config.options import Options

QUESTION = "Which worker wrote report 17, and when?"
ROOT = Path(nsa_cli.__file__).parent
MOST_RETURNS = 4
"""To context for its length, and to retrieval for its parts, pages and citations."""


def carries(value: Any) -> bool:
    """Whether a value is or contains the question."""
    if isinstance(value, str):
        return QUESTION in value
    if getattr(value, "text", None) == QUESTION:
        return True
    return isinstance(value, Sequence) and any(carries(item) for item in value[:3])


class Tracer:
    """Records each call that passes the question from one room of the program to another.

    Attributes:
        entries: Rooms that the question entered, in order.
    """

    def __init__(self) -> None:
        self.entries: list[str] = []
        self._begun: list[Any] = []

    def __call__(self, frame: Any, event: str, _argument: Any) -> None:
        """Record a call; `sys.setprofile` also reports a generator's resumption."""
        room = _room(frame)
        if event != "call" or room is None or not _has_question(frame):
            return
        if any(frame is begun for begun in self._begun):  # a generator resumes
            return
        self._begun.append(frame)
        giver = frame.f_back
        while giver is not None and not (_room(giver) and _has_question(giver)):
            giver = giver.f_back
        if giver is None or _room(giver) != room:
            self.entries.append(room)


def _room(frame: Any) -> str | None:
    """The room of a function of the program."""
    path = Path(frame.f_code.co_filename)
    if not path.is_relative_to(ROOT):
        return None
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def _has_question(frame: Any) -> bool:
    """Whether a function has the question as an argument."""
    code = frame.f_code
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    return any(carries(frame.f_locals.get(name)) for name in names)


def test_a_question_seldom_returns_to_a_room(
    tiny_model: Path, cache_folder: Path, tmp_path: Path, prose: Any
) -> None:
    del cache_folder
    path = tmp_path / "log.txt"
    path.write_text(prose(120))
    tracer = Tracer()
    options = Options(model=str(tiny_model), max_tokens=6, cache_limit_bytes=10**9)
    sys.setprofile(tracer)
    try:
        [answer] = ask([str(path)], [QUESTION], options, lambda _: None)
    finally:
        sys.setprofile(None)
    assert answer.citations
    returns = [room for n, room in enumerate(tracer.entries) if room in tracer.entries[:n]]
    assert len(returns) <= MOST_RETURNS, " ".join(tracer.entries)
