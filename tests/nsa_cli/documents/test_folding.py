"""Lines of a log by their kinds: which are kept, and where they stand."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsa_cli.documents.build import join_documents
from nsa_cli.documents.document import Document
from nsa_cli.documents.folding import Sifted
from nsa_cli.documents.text import read_text


def kept(document: Document) -> list[tuple[str, int, str]]:
    """Source, number and text of every line that is left."""
    found = []
    for piece in document.pieces:
        lines = document.text[piece.start : piece.end].split("\n")
        found += [(piece.source, piece.first_line + n, line) for n, line in enumerate(lines)]
    return found


def test_the_first_of_each_kind_and_the_last_lines() -> None:
    lines = [f"10:{n:02} job {n} done" for n in range(60)]
    lines[20] = "10:20 job lost: no route"
    lines[40] = ""
    document = read_text("\n".join(lines).encode(), "a.log")
    sifted = Sifted(document)
    assert (sifted.kinds, sifted.repeats) == (2, True)
    found = sifted.within(240)
    assert found is not None
    assert [number for _, number, _ in kept(found.document)] == [*range(1, 10), 21, 58, 59, 60]
    assert (found.lines, found.kept, found.each) == (59, 13, 9)
    assert found.document.left_out_lines == 46
    assert len(found.document.text) <= 240
    assert sifted.within(10) is None


lines_of_logs = st.lists(
    st.sampled_from(["", " ", "up", "job 1 done", "job 27 done", "a1b2 at 0x7f", "at 3", "é 5 ü"]),
    min_size=1,
    max_size=60,
)


@given(parts=st.lists(lines_of_logs, min_size=1, max_size=3), most=st.integers(1, 400))
def test_every_line_that_is_kept_is_that_line(parts: list[list[str]], most: int) -> None:
    files = [part for part in parts if "".join(part).strip()]
    if not files:
        return
    documents = [read_text("\n".join(part).encode(), f"{n}.log") for n, part in enumerate(files)]
    whole = join_documents(documents, "logs")
    found = Sifted(whole).within(most)
    if found is None:
        return
    rows = kept(found.document)
    assert rows == sorted(rows)
    assert all(line == files[int(source[0])][number - 1] for source, number, line in rows)
    filled = [row for row in rows if row[2]]
    assert len(filled) == found.kept
    assert found.lines - found.kept == found.document.left_out_lines
    assert sum(len(row[2]) + 1 for row in filled) <= most
    for piece in found.document.pieces:
        at = found.document.locate(piece.start, piece.end)
        assert (at.source, at.line_start) == (piece.source, piece.first_line)


def test_long_pieces_are_sifted_in_parts(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    rng = random.Random(seed)
    lines = [rng.choice(["start 1", "stop", "", "x" * 90, "y 5"]) for _ in range(300)]
    document = read_text("\n".join(["begin", *lines]).encode(), "a.log")
    whole = Sifted(document).within(1500)
    monkeypatch.setattr("nsa_cli.documents.folding._CHUNK", 100)
    seen: list[tuple[int, int]] = []
    parts = Sifted(document, on_progress=lambda done, total: seen.append((done, total)))
    assert parts.within(1500) == whole
    assert len(seen) > 20
    assert seen[-1] == (len(document.text), len(document.text))


def test_a_line_without_end_takes_no_time() -> None:
    document = read_text(b"a" * 2_000_000 + b"\n" + b"7" * 2_000_000, "a.log")
    assert Sifted(document).kinds == 2
