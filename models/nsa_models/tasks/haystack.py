"""English prose without data files: Python's documentation.

The docstrings of the standard library and the language reference of `help()` are long, varied and
on every machine. They differ slightly between Python versions, so results are reported with the
version and the digest of the text.
"""

from __future__ import annotations

import ast
import random
import re
import sysconfig
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path

_LEFT_OUT = frozenset(
    (
        *("__pycache__", "dist-packages", "encodings", "ensurepip", "idlelib", "lib2to3"),
        *("pydoc_data", "site-packages", "test", "tests", "turtledemo"),
    )
)
_SHORTEST = 60
_MOST_SIGNS = 0.1
"""Paragraphs with a larger share of signs and digits count as code, tables or grammar."""

_DEFINITIONS = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def documentation(characters: int, seed: int = 0) -> list[str]:
    """Return paragraphs of Python's documentation in random order.

    Args:
        characters: Minimum length of all paragraphs together; about a million are available.
        seed: Seed of the order of modules and topics.

    Returns:
        Distinct paragraphs without line breaks.
    """
    return list(_documentation(characters, seed))


@lru_cache(maxsize=2)
def _documentation(characters: int, seed: int) -> tuple[str, ...]:
    root = Path(sysconfig.get_path("stdlib"))
    files = sorted(
        path
        for path in root.rglob("*.py")
        if not _LEFT_OUT.intersection(path.relative_to(root).parts)
    )
    sources: list[Path | str] = [*files, *_topics()]
    random.Random(seed).shuffle(sources)
    unique: dict[str, None] = {}
    length = 0
    for source in sources:
        texts = _docstrings(source) if isinstance(source, Path) else [source]
        for paragraph in _paragraphs(texts):
            if paragraph not in unique:
                unique[paragraph] = None
                length += len(paragraph) + 1
        if length >= characters:
            break
    return tuple(unique)


def paragraphs(text: str) -> list[str]:
    """Return the paragraphs of a text, or its lines if it has no empty lines."""
    parts = [part.strip() for part in re.split(r"\n\s*\n", text)]
    if len(parts) == 1:
        parts = [line.strip() for line in text.splitlines()]
    return [part for part in parts if part]


def _topics() -> list[str]:
    try:
        from pydoc_data.topics import topics
    except ImportError:  # some systems package it separately
        return []
    return [topics[name] for name in sorted(topics)]


def _docstrings(path: Path) -> Iterator[str]:
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, _DEFINITIONS) and (text := ast.get_docstring(node)):
            yield text


def _paragraphs(texts: Iterable[str]) -> Iterator[str]:
    """Yield the paragraphs that are prose, each on one line."""
    for text in texts:
        for part in re.split(r"\n\s*\n", text):
            line = " ".join(part.split())
            if len(line) < _SHORTEST or ">>>" in line or line[-1] not in ".!?:":
                continue
            plain = sum(char.isalpha() or char in " ,.'" for char in line)
            if plain >= (1 - _MOST_SIGNS) * len(line):
                yield line
