"""A tree of files and folders with their token counts, the largest first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath

from nsa_cli.documents.location import printable
from nsa_cli.results import FileTokens

_MOST_LINES = 40

_MOST_BESIDE = 10
"""Entries shown of one folder; a last line sums up the others."""


@dataclass(slots=True)
class _Node:
    """A file, or a folder and its entries."""

    tokens: int = 0
    inside: dict[str, _Node] = field(default_factory=dict)


def tree(sizes: Sequence[FileTokens]) -> list[str]:
    """Lines of the tree: tokens, then the indented name.

    The largest folders are expanded until the lines run out.
    """
    root = _Node()
    for size in sizes:
        node = root
        node.tokens += size.tokens
        for part in PurePath(size.source).parts:
            node = node.inside.setdefault(part, _Node())
            node.tokens += size.tokens
    opened = _expanded(root)
    width = len(f"{root.tokens:,}")
    return [
        f"{tokens:>{width},}  {'  ' * depth}{name}" for depth, name, tokens in _lines(root, opened)
    ]


def _expanded(root: _Node) -> set[int]:
    """Identities of the folders to expand."""
    opened = {id(root)}
    room = _MOST_LINES - _height(root)
    edge = _folders(root)
    while edge:
        edge.sort(key=lambda node: node.tokens)
        node = edge.pop()
        if _height(node) > room:
            continue
        room -= _height(node)
        opened.add(id(node))
        edge += _folders(node)
    return opened


def _height(node: _Node) -> int:
    return min(len(node.inside), _MOST_BESIDE + 1)


def _folders(node: _Node) -> list[_Node]:
    return [each for _, each in _shown(node) if each.inside]


def _shown(node: _Node) -> list[tuple[str, _Node]]:
    """The entries shown of a folder, the largest first; chains of single entries are joined."""
    ranked = sorted(node.inside.items(), key=lambda item: (-item[1].tokens, item[0]))
    shown = ranked if len(ranked) <= _MOST_BESIDE + 1 else ranked[:_MOST_BESIDE]
    return [_innermost(name, each) for name, each in shown]


def _innermost(name: str, node: _Node) -> tuple[str, _Node]:
    while len(node.inside) == 1:
        inner, node = next(iter(node.inside.items()))
        name = str(PurePath(name, inner))
    return name, node


def _lines(node: _Node, opened: set[int], depth: int = 0) -> Iterator[tuple[int, str, int]]:
    shown = _shown(node)
    for name, each in shown:
        yield depth, printable(name) + ("/" if each.inside else ""), each.tokens
        if id(each) in opened:
            yield from _lines(each, opened, depth + 1)
    rest = len(node.inside) - len(shown)
    if rest:
        left = node.tokens - sum(each.tokens for _, each in shown)
        yield depth, f"… {rest:,} more", left
