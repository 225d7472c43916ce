"""Files, folders, globs and pipes, as one document."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from nsa_cli.documents import find_sources, parse_document, parse_sources, read_sources
from nsa_cli.documents.build import join_documents
from nsa_cli.documents.document import Document
from nsa_cli.documents.errors import UnreadableError
from nsa_cli.results import Passage
from nsa_cli.retrieval.citations import cite
from nsa_models.errors import DoesNotFitError, NsaError, UsageError


def paths(*arguments: str | Path) -> list[str]:
    return [found.path for found in find_sources([str(each) for each in arguments])]


def names(folder: Path, *arguments: str | Path) -> list[str]:
    found = paths(*(arguments or (folder,)))
    return [os.path.relpath(path, folder) for path in found]


def together(*arguments: str | Path) -> tuple[Document, list[str]]:
    notes: list[str] = []
    sources = read_sources([str(each) for each in arguments], on_note=notes.append)
    return parse_sources(sources, "all", on_note=notes.append), notes


def write(folder: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def test_a_folder_without_what_nobody_reads(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "b.py": "b = 1\n",
            "a/z.md": "# z\n",
            "a/.hidden": "no\n",
            ".git/config": "no\n",
            "node_modules/x/index.js": "no\n",
            "__pycache__/a.pyc": b"\x00\x01",
            "image.png": b"\x89PNG\r\n\x1a\n\x00\x00",
            "data.bin": b"abc\x00def",
            "empty.txt": "",
            "app.min.js": "no\n",
        },
    )
    assert names(tmp_path) == ["a/z.md", "b.py", "empty.txt"]


def test_a_build_folder_is_left_out_beside_its_maker(tmp_path: Path) -> None:
    write(tmp_path, {"rust/Cargo.toml": "x", "rust/target/a.rs": "x", "goals/target/a.md": "x"})
    assert names(tmp_path) == ["goals/target/a.md", "rust/Cargo.toml"]


def test_gitignore_as_git_reads_it(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            ".git/info/exclude": "private.txt\n",
            ".gitignore": "*.log\n/out/\n!kept.log\n[\n",
            "a.log": "no\n",
            "kept.log": "yes\n",
            "out/x.txt": "no\n",
            "sub/out/x.txt": "yes\n",
            "sub/.gitignore": "x.md\n!b.log\n",
            "sub/x.md": "no\n",
            "sub/b.log": "yes\n",
            "x.md": "yes\n",
            "private.txt": "no\n",
        },
    )
    expected = ["kept.log", "sub/b.log", "sub/out/x.txt", "x.md"]
    assert names(tmp_path) == expected
    inside = names(tmp_path, tmp_path / "sub")  # rules from above hold inside
    assert inside == ["sub/b.log", "sub/out/x.txt"]
    assert names(tmp_path, tmp_path / "a.log") == ["a.log"]  # named is named


def test_a_folder_that_is_ignored_is_read_when_it_is_named(tmp_path: Path) -> None:
    write(tmp_path, {".git/x": "", ".gitignore": "out\n", "out/a.txt": "x", "out/b/c.txt": "x"})
    write(tmp_path, {"out/.gitignore": "b/\n"})
    assert names(tmp_path, tmp_path / "out") == ["out/a.txt"]


def test_links_are_not_followed_in_folders(tmp_path: Path) -> None:
    write(tmp_path, {"a/b/c.txt": "text\n"})
    (tmp_path / "a" / "b" / "loop").symlink_to(tmp_path / "a")
    (tmp_path / "a" / "self").symlink_to(tmp_path / "a" / "self")
    (tmp_path / "a" / "other.txt").symlink_to(tmp_path / "a" / "b" / "c.txt")
    os.mkfifo(tmp_path / "a" / "pipe")
    assert names(tmp_path) == ["a/b/c.txt"]
    assert names(tmp_path, tmp_path / "a" / "other.txt") == ["a/other.txt"]


def test_globs(tmp_path: Path) -> None:
    write(tmp_path, {"a/x.py": "x", "a/b/y.py": "y", "c.txt": "c", "[1].txt": "brackets"})
    assert names(tmp_path, tmp_path / "**" / "*.py") == ["a/b/y.py", "a/x.py"]
    assert names(tmp_path, tmp_path / "*") == ["[1].txt", "a/b/y.py", "a/x.py", "c.txt"]
    assert names(tmp_path, tmp_path / "[1].txt") == ["[1].txt"]
    with pytest.raises(UnreadableError, match="matches no file"):
        paths(tmp_path / "*.rs")


@pytest.mark.parametrize(
    ("name", "hint"),
    [("Who repairs the roof?", "give each question with --ask"), ("a?", "check the pattern")],
)
def test_a_question_among_the_files_is_told(name: str, hint: str) -> None:
    with pytest.raises(UnreadableError) as caught:
        paths(name)
    assert caught.value.hint == hint


def test_each_file_once(tmp_path: Path) -> None:
    write(tmp_path, {"a.txt": "a", "b.txt": "b"})
    assert names(tmp_path, tmp_path / "b.txt", tmp_path, tmp_path / "a.txt") == ["b.txt", "a.txt"]


@pytest.mark.parametrize("name", ["a b.txt", "line\nbreak.txt", "🦊 naïve.txt", "-x.txt", "quo'te"])
def test_odd_names(tmp_path: Path, name: str) -> None:
    write(tmp_path, {name: "The fox sleeps.\n", "other.txt": "Else.\n"})
    document, notes = together(tmp_path)
    assert notes == []
    assert {piece.source for piece in document.pieces} == {
        str(tmp_path / name),
        str(tmp_path / "other.txt"),
    }
    assert all("\n" not in line for line in document.text.splitlines() if line.startswith("==>"))


def test_a_name_that_is_no_utf_8(tmp_path: Path) -> None:
    path = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.txt")
    Path(path).write_text("coffee\n")
    (tmp_path / "b.txt").write_text("tea\n")
    document, _ = together(tmp_path)
    assert path in {piece.source for piece in document.pieces}
    assert document.text.encode()


def test_a_file_that_vanishes_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {"a.txt": "a", "b.txt": "b"})
    found = find_sources([str(tmp_path)])
    (tmp_path / "a.txt").unlink()
    monkeypatch.setattr("nsa_cli.documents.sources.find_sources", lambda _, **__: found)
    document, notes = together(tmp_path)
    assert notes == [f"{tmp_path / 'a.txt'} does not exist; left out"]
    assert [piece.source for piece in document.pieces] == [str(tmp_path / "b.txt")]


def test_a_file_of_a_folder_that_may_not_be_read_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, {"a.txt": "a", "b.txt": "b"})
    real = Path.open

    def forbid(path: Path, *more: object, **named: object) -> object:  # root may read everything
        if path.name == "a.txt":
            raise PermissionError(13, "Permission denied")
        return real(path, *more, **named)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", forbid)
    document, notes = together(tmp_path)
    assert notes == [f"{tmp_path / 'a.txt'} may not be read; left out"]
    assert [piece.source for piece in document.pieces] == [str(tmp_path / "b.txt")]


def test_a_broken_file_of_a_folder_is_told_and_left_out(tmp_path: Path) -> None:
    write(tmp_path, {"a.pdf": b"%PDF-1.7\nnothing", "b.txt": "text\n"})
    document, [note] = together(tmp_path)
    assert note.startswith(f"{tmp_path / 'a.pdf'} is a damaged PDF")
    assert note.endswith("left out")
    assert len(document.pieces) == 1
    with pytest.raises(UnreadableError):
        together(tmp_path / "a.pdf", tmp_path / "b.txt")


def test_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(UnreadableError, match="has no readable file") as caught:
        paths(tmp_path)
    assert (caught.value.code, caught.value.exit_code) == ("empty", 3)
    with pytest.raises(UsageError):
        find_sources([])


def test_too_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nsa_cli.documents.sources._MOST_FILES", 3)
    write(tmp_path, {f"{number}.txt": "x" for number in range(5)})
    with pytest.raises(DoesNotFitError, match="more than 3 files"):
        paths(tmp_path)


@pytest.mark.parametrize(
    ("given", "ordered"),
    [
        (
            ["app.log", "app.log.1", "app.log.10.gz", "app.log.2.gz"],
            ["app.log.10.gz", "app.log.2.gz", "app.log.1", "app.log"],
        ),
        (
            ["app.log", "app.log-20260102.gz", "app.log-20260101.zst"],
            ["app.log-20260101.zst", "app.log-20260102.gz", "app.log"],
        ),
        (["b.log.1", "x.txt", "b.log"], ["b.log.1", "b.log", "x.txt"]),
        (
            ["chapter.2", "a.txt", "v1.10.md", "v1.9.md"],
            ["chapter.2", "a.txt", "v1.10.md", "v1.9.md"],
        ),
    ],
)
def test_rotated_logs_come_in_order(tmp_path: Path, given: list[str], ordered: list[str]) -> None:
    write(tmp_path, dict.fromkeys(given, "x\n"))
    assert names(tmp_path, *(tmp_path / name for name in given)) == ordered


def test_a_rotated_log_is_read_through(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "app.log": "three\n",
            "app.log.1": "two\n",
            "app.log.2.gz": gzip.compress(b"zero\none\n"),
        },
    )
    document, notes = together(tmp_path)
    assert notes == []
    positions = [document.text.index(word) for word in ("zero", "one", "two", "three")]
    assert positions == sorted(positions)
    place = document.locate(positions[1], positions[1] + 3)
    assert (place.source, place.line_start) == (str(tmp_path / "app.log.2.gz"), 2)


@pytest.mark.parametrize(
    ("suffix", "packed"),
    [
        ("gz", gzip.compress),
        ("bz2", bz2.compress),
        ("xz", lzma.compress),
        ("zst", zstandard.ZstdCompressor().compress),
    ],
)
def test_compressed_files(suffix: str, packed: object, monkeypatch: pytest.MonkeyPatch) -> None:
    assert callable(packed)
    data = packed(b"The pier cost 4,200.\n" * 50)
    document = parse_document(f"a.log.{suffix}", data)
    assert document.name == f"a.log.{suffix}" == document.pieces[0].source
    assert document.text == "The pier cost 4,200.\n" * 50
    for broken in (data[: len(data) // 2], data[:-3] + b"???"):
        with pytest.raises(UnreadableError) as caught:
            parse_document(f"a.log.{suffix}", broken)
        assert caught.value.code in ("broken", "empty")
    monkeypatch.setattr("nsa_cli.documents.compressed.MOST_BYTES", 1 << 26)
    bomb = packed(b"0" * 70_000_000)
    with pytest.raises(DoesNotFitError, match="unpacks to more than 512 MB"):
        parse_document(f"a.log.{suffix}", bomb)


def test_a_log_longer_than_any_text(tmp_path: Path) -> None:
    with (tmp_path / "huge.log").open("wb") as file:
        file.truncate(2_000_000_000)
    with pytest.raises(DoesNotFitError, match="more than can be read") as caught:
        read_sources([str(tmp_path / "huge.log")], on_note=print)
    assert "tail" in caught.value.hint
    assert caught.value.exit_code == 4


def test_standard_input_beside_files(tmp_path: Path) -> None:
    write(tmp_path, {"a.txt": "from a file\n"})
    sources = read_sources(
        ["-", str(tmp_path / "a.txt")], on_note=print, stdin=io.BytesIO(b"from a pipe\n")
    )
    document = parse_sources(sources, "all", on_note=print)
    assert [piece.source for piece in document.pieces] == ["stdin", str(tmp_path / "a.txt")]


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=200).filter(
    lambda text: bool(text.strip())
)


@given(st.lists(texts, min_size=1, max_size=4), st.data())
def test_every_quote_is_verbatim_at_its_place(contents: list[str], data: st.DataObject) -> None:
    documents = []
    for number, content in enumerate(contents):
        try:
            documents.append(parse_document(f"{number}.txt", content.encode()))
        except NsaError:
            continue
    if not documents:
        return
    whole = join_documents(documents, "all")
    for document in documents:  # each character stands where it stood alone
        for piece in (p for p in whole.pieces if p.source == document.name):
            assert whole.text[piece.start : piece.end] == document.text
    start = data.draw(st.integers(0, len(whole.text)))
    end = data.draw(st.integers(start, len(whole.text)))
    passage = Passage(start=start, end=end, score=1.0)
    for citation in cite(whole, [passage], data.draw(texts), "Who?").citations:
        lines = next(d for d in documents if d.name == citation.source).text.split("\n")
        there = "\n".join(lines[citation.line_start - 1 : citation.line_end])
        assert citation.quote in there


def test_a_web_page_longer_than_can_be_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nsa_cli.documents.formats.choose.MOST_FORMAT_BYTES", 100)
    page = b"<!doctype html><p>The pier cost 4,200.</p>"
    assert "4,200" in parse_document("a.html", page).text
    with pytest.raises(DoesNotFitError, match="holds more than 64 MB"):
        parse_document("a.html", page * 3)
