"""What is kept of documents: who can read it, how it is removed, and how nothing is kept."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from nsa_cli.caches import documents
from nsa_cli.config.options import Options
from nsa_cli.engine.forget import find_kept
from nsa_cli.serve.documents import DocumentStore
from nsa_cli.serve.routes import Server
from nsa_cli.serve.scheduler import Scheduler
from nsa_cli.serve.uploads import Uploads
from nsa_models.paths import private_folder

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def _every_text_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "_WORTH_SECONDS", 0.0)


def listing(folder: Path) -> set[str]:
    """All files and folders below a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def kept_files(cache: Path) -> dict[str, int]:
    """Number of kept things by kind."""
    return {
        "readings": len(list(cache.glob("readings/*/manifest.json"))),
        "documents": len(list(cache.glob("documents/*.json"))),
        "answers": len(list(cache.glob("answers/*.json"))),
    }


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_folders_are_private(nsa: Run, text_file: Path, cache_folder: Path) -> None:
    (cache_folder / "answers").mkdir(parents=True, mode=0o755)
    assert nsa("ask", str(text_file), "Who?")[0] == 0
    for name in ("readings", "documents", "answers"):
        assert stat.S_IMODE((cache_folder / name).stat().st_mode) == 0o700, name
    assert all(kept_files(cache_folder).values())


def test_a_folder_of_another_user_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any) -> None:
        raise PermissionError(1, "not the owner")

    folder = tmp_path / "shared"
    folder.mkdir(mode=0o755)
    monkeypatch.setattr(Path, "chmod", refused)
    assert private_folder(folder) == folder


def test_all_that_is_kept_of_a_document_is_removed(
    nsa: Run, text_file: Path, cache_folder: Path, prose: Any
) -> None:
    other = text_file.with_name("other.txt")
    other.write_text(prose(60, seed=5))
    assert nsa("ask", str(other), "Who?")[0] == 0
    before = listing(cache_folder)
    for question in ("Who?", "When?"):
        assert nsa("ask", str(text_file), question)[0] == 0
    assert kept_files(cache_folder) == {"readings": 2, "documents": 2, "answers": 3}
    code, _, err = nsa("cache", "rm", str(text_file), "--force")
    assert code == 0, err
    left = listing(cache_folder)
    assert kept_files(cache_folder) == {"readings": 1, "documents": 1, "answers": 1}
    assert {name for name in left - before if not name.endswith(".lock")} == set()
    words = text_file.read_text().splitlines()[50].encode()
    assert not any(words in path.read_bytes() for path in cache_folder.rglob("*") if path.is_file())
    code, _, err = nsa("cache", "rm", str(text_file), "--force")
    assert (code, "nothing is stored for" in err) == (0, True)


def test_a_document_is_found_under_another_name(
    nsa: Run, text_file: Path, cache_folder: Path
) -> None:
    assert nsa("ask", str(text_file), "Who?")[0] == 0
    moved = text_file.rename(text_file.with_name("moved.txt"))
    assert nsa("cache", "rm", str(moved), "--force")[0] == 0
    assert not any(kept_files(cache_folder).values())


def test_a_document_that_is_gone_is_found_by_its_name(
    nsa: Run, text_file: Path, cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(text_file.parent)
    assert nsa("ask", text_file.name, "Who?")[0] == 0
    text_file.unlink()
    assert nsa("cache", "rm", f"./{text_file.name}", "--force")[0] == 0
    assert not any(kept_files(cache_folder).values())


def test_a_folder_names_all_its_files(nsa: Run, tmp_path: Path, cache_folder: Path) -> None:
    folder = tmp_path / "notes"
    folder.mkdir()
    for name in ("a.txt", "b.txt"):
        (folder / name).write_text(f"The worker of {name} wrote it.\n")
        assert nsa("ask", str(folder / name), "Who?")[0] == 0
    assert nsa("ask", str(folder), "Who?")[0] == 0
    assert nsa("cache", "rm", str(folder / "a.txt"), "--force")[0] == 0
    assert kept_files(cache_folder) == {"readings": 1, "documents": 1, "answers": 1}
    assert nsa("cache", "rm", str(folder), "--force")[0] == 0
    assert not any(kept_files(cache_folder).values())


def test_answers_of_earlier_versions_are_found_by_name(
    nsa: Run, text_file: Path, cache_folder: Path
) -> None:
    from nsa_cli.caches import json_files

    assert nsa("ask", str(text_file), "Who?")[0] == 0
    [path] = cache_folder.glob("answers/*.json")
    kept = json_files.read(path)
    assert kept is not None
    del kept["contents"], kept["name"]
    json_files.write(path, kept, most=10)
    assert find_kept([str(text_file)]).answers == (path,)
    for about in cache_folder.glob("readings/*/about.json"):
        about.write_text(json.dumps({**json.loads(about.read_text()), "contents": []}))
    assert len(find_kept([str(text_file)]).readings) == 1


def test_summaries_are_removed_with_their_documents(
    nsa: Run, tmp_path: Path, cache_folder: Path, prose: Any
) -> None:
    folder = tmp_path / "notes"
    folder.mkdir()
    for number, name in enumerate(("a.txt", "b.txt")):
        (folder / name).write_text(prose(30, seed=number))
    assert nsa("summarize", str(folder), "--length", "short")[0] == 0
    assert kept_files(cache_folder)["answers"] == 3  # of each file, and of both
    code, _, err = nsa("cache", "rm", str(folder / "a.txt"), "--force")
    assert code == 0, err
    assert err.startswith("nsa: removed 1 reading, 1 parsed document, 2 answers; ")
    assert kept_files(cache_folder)["answers"] == 1
    (folder / "b.txt").unlink()
    assert nsa("cache", "rm", str(folder / "b.txt"), "--force")[0] == 0
    assert kept_files(cache_folder)["answers"] == 0


def test_a_removal_is_confirmed(nsa: Run, text_file: Path, cache_folder: Path) -> None:
    assert nsa("ask", str(text_file), "Who?")[0] == 0
    assert nsa("cache", "rm", str(text_file))[0] != 0  # standard input is no terminal
    assert kept_files(cache_folder) == {"readings": 1, "documents": 1, "answers": 1}


def test_no_store_keeps_nothing(
    nsa: Run, text_file: Path, tmp_path: Path, cache_folder: Path
) -> None:
    other = tmp_path / "other.txt"
    other.write_text("The worker of the harbour wrote it.\n")
    assert nsa("ask", str(other), "Who?")[0] == 0  # folders that exist
    before = listing(cache_folder)
    questions = tmp_path / "questions.txt"
    questions.write_text("Who?\n")
    rows = str(tmp_path / "rows.jsonl")
    for arguments in (
        ("ask", str(text_file), "Who?"),
        ("find", str(text_file), "worker"),
        ("summarize", str(text_file), "--length", "short"),
        ("batch", str(text_file), "--questions", str(questions), "--out", rows),
    ):
        code, _, err = nsa(*arguments, "--no-store")
        assert code == 0, (arguments, err)
        assert listing(cache_folder) == before, arguments


def test_a_server_without_a_store_keeps_nothing(
    tiny_model: Path, tmp_path: Path, cache_folder: Path, prose: Any
) -> None:
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "log.txt").write_text(prose(60))
    cache_folder.mkdir()
    options = Options(model=str(tiny_model), max_tokens=6, store=False)
    uploads = Uploads()
    library = DocumentStore(tmp_path / "served", uploads)
    worker = Scheduler(options, [].append, library.parsed)
    worker.start()
    folder = uploads._folder
    assert os.name != "posix" or stat.S_IMODE(folder.stat().st_mode) == 0o700
    app = Server(worker, library, 6).app(api_key=None, most_bytes=10**6)
    with TestClient(app, base_url="http://127.0.0.1") as client:
        sent = {"file": ("log.txt", prose(60).encode(), "text/plain")}
        upload = client.post("/v1/files", files=sent).json()["id"]
        for documents_ in ([upload], ["log.txt"], []):
            body = {"messages": [{"role": "user", "content": "Who?"}], "documents": documents_}
            assert client.post("/v1/chat/completions", json=body).status_code == 200
        assert client.post("/v1/responses", json={"input": "Who?"}).status_code == 200
    worker.join(60)
    kept = {name for name in listing(cache_folder) if not name.startswith("models")}
    assert kept == set(), "only the model's own tables"
    assert not folder.exists()


def test_a_url_names_what_is_kept_of_it(
    nsa: Run, site: Any, cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page was reached by two names, one of which redirects to the other."""
    monkeypatch.delenv("NSA_OFFLINE")
    page = b"<p>The worker of line 7 wrote report 9.</p>" * 3
    url = site.put("/lease", page, Content_Type="text/html", ETag='"1"')
    moved = site.put("/old", b"", status=302, Location="/lease")
    other = site.put("/other", page * 2, Content_Type="text/html", ETag='"2"')
    for each in (url, moved, other):
        assert nsa("ask", each, "Who?", "--allow-private")[0] == 0
    assert len(list(cache_folder.glob("web/*.body"))) == 2
    monkeypatch.setenv("NSA_OFFLINE", "1")
    code, _, err = nsa("cache", "rm", f"{moved}#part", "--force")
    assert code == 0
    assert "1 web page; " in err
    [left] = cache_folder.glob("web/*.body")
    assert left.read_bytes() == page * 2
    assert kept_files(cache_folder) == {"readings": 1, "documents": 1, "answers": 1}
    code, _, err = nsa("cache", "rm", url, "--force")
    assert (code, err) == (0, f"nsa: nothing is stored for {url}\n")
