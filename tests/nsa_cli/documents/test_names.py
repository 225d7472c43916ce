"""Names in two Unicode forms, and names that are URLs."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from nsa_cli.documents import find_sources, read_sources
from nsa_cli.documents.names import existing_name, is_url, matching_names

NFC, NFD = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))


@pytest.mark.parametrize(("made", "typed"), [(NFC, NFD), (NFD, NFC), (NFC, NFC), (NFD, NFD)])
def test_a_name_is_found_in_either_form(
    made: str, typed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(made).mkdir()
    (Path(made) / f"{made}.txt").write_text("The rent is 900.\n")
    for name in (f"{typed}/{typed}.txt", f"./{typed}/{typed}.txt", typed, f"{typed}/*{typed[3:]}*"):
        [source] = read_sources([name], on_note=print)
        assert source.data == b"The rent is 900.\n"
    assert Path(existing_name(f"{typed}/{typed}.txt")).exists()


def test_a_path_of_mixed_forms(tmp_path: Path) -> None:
    (tmp_path / NFD / NFC).mkdir(parents=True)
    (tmp_path / NFD / NFC / f"{NFD}.txt").write_text("x")
    typed = f"{tmp_path}/{NFC}/{NFD}/{NFC}.txt"
    assert Path(existing_name(typed)) == tmp_path / NFD / NFC / f"{NFD}.txt"


def test_both_forms_typed_are_one_file(tmp_path: Path) -> None:
    (tmp_path / NFD).write_text("x")
    assert len(find_sources([f"{tmp_path}/{NFD}", f"{tmp_path}/{NFC}"])) == 1


def test_a_name_in_no_form_stays(tmp_path: Path) -> None:
    assert existing_name(f"{tmp_path}/{NFC}") == f"{tmp_path}/{NFC}"
    assert existing_name("a\0é") == "a\0é"
    assert matching_names(f"{tmp_path}/*{NFC}") == []


@pytest.mark.parametrize("name", ["https://a.org/b.pdf", "HTTP://a", "ftp://a/b", "file:///a"])
def test_urls(name: str) -> None:
    assert is_url(name)


@pytest.mark.parametrize("name", ["a.txt", "c:/a.txt", "https:/a", "what is https://a.org?", "-"])
def test_what_is_no_url(name: str) -> None:
    assert not is_url(name)
