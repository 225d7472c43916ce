"""Collecting PDFs: git runs on a local repository, the other clients are scripts made here."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nsa_cli.evaluation.document_suite import collect
from nsa_cli.evaluation.document_suite.collect import CollectError
from nsa_cli.evaluation.document_suite.questions import DocumentEntry

PDF = b"%PDF-1.7 of the test"


def entry(kind: str, path: str, version: str = "1.0", data: bytes = PDF) -> DocumentEntry:
    return DocumentEntry(
        id="guide",
        title="Guide",
        kind="manual",
        language="en",
        sha256=hashlib.sha256(data).hexdigest(),
        source={"from": kind, "name": "owner/name", "version": version, "path": path},
    )


def tar_of(members: dict[str, bytes], mode: str = "w:gz") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:  # type: ignore[call-overload]
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """A function that puts a shell script in front of a client."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def put(name: str, script: str) -> None:
        path = folder / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    return put


def test_a_commit_of_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("git") is None:
        pytest.skip("needs git")
    origin = tmp_path / "owner" / "name"
    (origin / "docs").mkdir(parents=True)
    (origin / "docs" / "a.pdf").write_bytes(PDF)
    git = ("git", "-C", str(origin), "-c", "user.name=a", "-c", "user.email=a@b")
    for words in (("init", "-q"), ("add", "."), ("commit", "-qm", "a")):
        subprocess.run([*git, *words], check=True)
    for name in ("allowAnySHA1InWant", "allowFilter"):
        subprocess.run([*git, "config", f"uploadpack.{name}", "true"], check=True)
    commit = subprocess.run(
        [*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True
    ).stdout.strip()
    monkeypatch.setattr(collect, "GITHUB", f"file://{tmp_path}/")
    out = tmp_path / "out"
    assert collect.collect(entry("github", "docs/a.pdf", commit), out)
    assert (out / "guide.pdf").read_bytes() == PDF
    assert not collect.collect(entry("github", "docs/a.pdf", commit), out)
    with pytest.raises(CollectError, match="its SHA-256 is"):
        collect.collect(entry("github", "docs/a.pdf", commit, b"other"), out)
    (out / "guide.pdf").unlink()
    with pytest.raises(CollectError, match="git: "):
        collect.collect(entry("github", "docs/b.pdf", commit), out)


def test_a_debian_package(tmp_path: Path, client: Any) -> None:
    archive = tmp_path / "data.tar"
    inside = {"./usr/share/doc/a/guide.pdf.gz": gzip.compress(PDF), "./usr/b.pdf": b"%PDF"}
    archive.write_bytes(tar_of(inside, "w"))
    client("apt-get", '[ "$2" = owner/name ] || exit 100\ntouch name_1.1_all.deb')
    client("dpkg-deb", f"cat {archive}")
    source = entry("debian", "/usr/share/doc/a/guide.pdf.gz")
    assert collect.collect(source, tmp_path / "out")
    with pytest.raises(CollectError, match="its SHA-256 is"):
        collect.collect(entry("debian", "usr/b.pdf", data=b"other"), tmp_path / "out")
    with pytest.raises(CollectError, match=r"no usr/c.pdf in it"):
        collect.collect(entry("debian", "usr/c.pdf", data=b"other"), tmp_path / "out")
    client("apt-get", "echo 'E: no such package' >&2; exit 100")
    with pytest.raises(CollectError, match="apt-get: E: no such package"):
        collect.collect(entry("debian", "usr/b.pdf", data=b"other"), tmp_path / "out")


def test_an_npm_package(tmp_path: Path, client: Any) -> None:
    archive = tmp_path / "a.tgz"
    archive.write_bytes(tar_of({"package/docs/guide.pdf": PDF}))
    client("npm", f"cp {archive} name-1.0.tgz")
    assert collect.collect(entry("npm", "docs/guide.pdf"), tmp_path / "out")


def test_a_python_package(tmp_path: Path, client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("name-1.0/docs/guide.pdf", PDF)
    client("python-of-test", f"cp {archive} name-1.0.zip")
    monkeypatch.setattr("sys.executable", "python-of-test")
    assert collect.collect(entry("pypi", "docs/guide.pdf"), tmp_path / "out")


def test_what_was_not_collected_is_told(
    suite: Any, tmp_path: Path, client: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    client("git", "echo 'fatal: not there' >&2; exit 128")
    (suite.documents / "lease.pdf").unlink()
    assert collect.main([str(suite.questions), str(suite.documents)]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "lease: not collected: git: fatal: not there",
        "report: there already",
        "1 of 2 documents",
    ]
    source = {"from": "post", "name": "a", "version": "1", "path": "a.pdf"}
    suite.write("lease", source=source)
    assert collect.main([str(suite.questions), str(suite.documents)]) == 1
    assert "no way to get a document from 'post'" in capsys.readouterr().out
    assert collect.main([]) == 2
    assert collect.main([str(tmp_path), str(tmp_path)]) == 3


def test_a_client_that_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CollectError, match="npm is not installed"):
        collect.collect(entry("npm", "a.pdf"), tmp_path)
