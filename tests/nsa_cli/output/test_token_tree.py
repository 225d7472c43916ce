"""Tokens of files and folders, largest first."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from nsa_cli.output.token_tree import _MOST_LINES, tree
from nsa_cli.results import FileTokens

Run = Callable[..., tuple[int, str, str]]


def sizes(**files: int) -> list[FileTokens]:
    return [
        FileTokens(source=name.replace("__", "/"), tokens=count) for name, count in files.items()
    ]


def test_folders_are_summed_up_and_the_largest_come_first() -> None:
    found = tree(sizes(src__a=10, src__deep__er__b=1200, src__deep__er__c=5, docs__d=300, e=7))
    assert found == [
        "1,215  src/",
        "1,205    deep/er/",
        "1,200      b",
        "    5      c",
        "   10    a",
        "  300  docs/d",
        "    7  e",
    ]


def test_many_files_are_truncated() -> None:
    found = tree([FileTokens(source=f"a/{n}.txt", tokens=n) for n in range(1, 101)])
    assert found[0].split() == ["5,050", "a/"]
    assert found[1].split() == ["100", "100.txt"]
    assert found[-1].split(maxsplit=1) == ["4,095", "… 90 more"]
    assert len(found) == 12


parts = st.lists(st.sampled_from("abcdefghijklmnop"), min_size=1, max_size=4)


@given(st.lists(st.tuples(parts, st.integers(0, 9999)), min_size=1, max_size=200))
def test_no_token_is_lost_and_no_tree_is_long(files: list[tuple[list[str], int]]) -> None:
    found = [
        FileTokens(source="/".join([*path, f"{n}.txt"]), tokens=t)
        for n, (path, t) in enumerate(files)
    ]
    lines = tree(found)
    assert len(lines) <= _MOST_LINES + 1
    split = [line.split(maxsplit=1) for line in lines]
    width = len(f"{sum(size.tokens for size in found):,}")
    top = [
        int(tokens.replace(",", ""))
        for (tokens, _), line in zip(split, lines, strict=True)
        if line[width + 2] != " "
    ]
    assert sum(top) == sum(size.tokens for size in found)


def test_a_dry_run_shows_the_tree(nsa: Run, tmp_path: Path, prose: Callable[..., str]) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "short.txt").write_text(prose(3))
    (folder / "long.txt").write_text(prose(60))
    code, out, _ = nsa("ask", str(folder), "Who?", "--dry-run")
    assert code == 0
    tree_lines, rest = out.split("\n\n")
    assert [line.split()[-1] for line in tree_lines.splitlines()][-2:] == ["long.txt", "short.txt"]
    assert rest.startswith("tokens")
    _, out, _ = nsa("ask", str(folder), "Who?", "--dry-run", "--json")
    found = json.loads(out)
    assert [Path(file["source"]).name for file in found["files"]] == ["long.txt", "short.txt"]
    total = sum(file["tokens"] for file in found["files"])
    assert 0 < total < found["estimate"]["tokens"]
    _, alone, _ = nsa("ask", str(folder / "long.txt"), "Who?", "--dry-run")
    assert alone.startswith("tokens")


def test_a_document_that_does_not_fit_shows_its_tree(
    nsa: Run, tmp_path: Path, prose: Callable[..., str]
) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.txt").write_text(prose(700, seed=number))
    code, out, err = nsa(
        "ask", str(folder), "Who?", "--dry-run", "--every-line", "--cache-limit", "0.001"
    )
    assert code == 4
    assert len(out.splitlines()) >= 4
    assert "--cache-limit" in err
