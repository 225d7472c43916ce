"""Collects the PDFs of the suite from their public sources, and checks their hashes.

`python -m nsa_cli.evaluation.document_suite.collect QUESTIONS_FOLDER PDF_FOLDER` gets each PDF by
the client of its source: git, apt-get, pip or npm. A PDF in the folder is only checked.
It tells what it could not get, and then ends with 1.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path, PurePosixPath

from nsa_cli.evaluation.document_suite.questions import DocumentEntry, read_questions
from nsa_models.errors import NsaError
from nsa_models.paths import atomic_write

GITHUB = "https://github.com/"
_SECONDS = 900
"""Maximum time of one client."""

Member = tuple[str, Callable[[], bytes]]
"""Path of a file in an archive, and a function that reads it."""


class CollectError(Exception):
    """A PDF that could not be collected; the message says why."""


def collect(entry: DocumentEntry, folder: Path) -> bool:
    """Put a PDF into a folder, unless it is there.

    Args:
        entry: The document, with its source and hash.
        folder: The folder.

    Returns:
        Whether it had to be fetched.

    Raises:
        CollectError: If it could not be fetched, or has another hash.
    """
    path = folder / f"{entry.id}.pdf"
    if path.exists() and _sha256(path.read_bytes()) == entry.sha256:
        return False
    kind = entry.source.get("from", "")
    if kind not in _SOURCES:
        raise CollectError(f"no way to get a document from {kind!r}")
    with tempfile.TemporaryDirectory() as work:
        data = _SOURCES[kind](entry.source, entry.sha256, Path(work))
    if _sha256(data) != entry.sha256:
        raise CollectError(f"its SHA-256 is {_sha256(data)}, not {entry.sha256}")
    with atomic_write(path) as partial:
        partial.write_bytes(data)
    return True


def _from_github(source: dict[str, str], _sha256: str, work: Path) -> bytes:
    _run(work, "git", "init", "--quiet")
    commit = source["version"]
    wanted = ("--depth", "1", "--filter=blob:none", f"{GITHUB}{source['name']}", commit)
    _run(work, "git", "-c", "protocol.version=2", "fetch", "--quiet", *wanted)
    _run(work, "git", "remote", "add", "origin", f"{GITHUB}{source['name']}")
    _run(work, "git", "config", "remote.origin.promisor", "true")
    return _run(work, "git", "show", f"{commit}:{source['path']}")


def _from_debian(source: dict[str, str], sha256: str, work: Path) -> bytes:
    _first_of(
        work,
        ("apt-get", "download", f"{source['name']}={source['version']}"),
        ("apt-get", "download", source["name"]),  # the hash tells whether the PDF is the same
    )
    archive = _run(work, "dpkg-deb", "--fsys-tarfile", _only(work, "*.deb").name)
    return _member(_tar_members(io.BytesIO(archive)), source["path"], sha256)


def _from_pypi(source: dict[str, str], sha256: str, work: Path) -> bytes:
    wanted = f"{source['name']}=={source['version']}"
    pip = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps")
    _first_of(
        work,
        (*pip, "--no-binary", ":all:", "--no-build-isolation", wanted),
        (*pip, "--no-binary", ":all:", wanted),
        (*pip, "--only-binary", ":all:", wanted),
    )
    return _archived(_only(work, "*"), source, sha256)


def _from_npm(source: dict[str, str], sha256: str, work: Path) -> bytes:
    _run(work, "npm", "pack", "--silent", f"{source['name']}@{source['version']}")
    return _archived(_only(work, "*.tgz"), source, sha256)


_SOURCES: dict[str, Callable[[dict[str, str], str, Path], bytes]] = {
    "github": _from_github,
    "debian": _from_debian,
    "pypi": _from_pypi,
    "npm": _from_npm,
}


def _archived(path: Path, source: dict[str, str], sha256: str) -> bytes:
    if zipfile.is_zipfile(path):
        return _member(_zip_members(path), source["path"], sha256)
    return _member(_tar_members(io.BytesIO(path.read_bytes())), source["path"], sha256)


def _tar_members(file: io.BytesIO) -> Iterator[Member]:
    with tarfile.open(fileobj=file) as archive:
        for each in archive:
            if each.isfile():
                opened = archive.extractfile(each)
                yield each.name, opened.read if opened is not None else bytes


def _zip_members(path: Path) -> Iterator[Member]:
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            yield name, partial(archive.read, name)


def _member(members: Iterator[Member], path: str, sha256: str) -> bytes:
    """Return the file at a path, or any with the hash; archives differ in their first folder."""
    wanted = PurePosixPath(path.removesuffix(" (unpacked)").lstrip("./")).parts
    found: bytes | None = None
    for name, read in members:
        is_wanted = PurePosixPath(name).parts[-len(wanted) :] == wanted
        if not is_wanted and not name.endswith((".pdf", ".pdf.gz")):
            continue
        data = read()
        data = gzip.decompress(data) if name.endswith(".gz") else data
        if _sha256(data) == sha256:
            return data
        found = data if is_wanted else found
    if found is None:
        raise CollectError(f"no {path} in it")
    return found


def _only(work: Path, pattern: str) -> Path:
    paths = [path for path in work.glob(pattern) if path.is_file()]
    if len(paths) != 1:
        raise CollectError(f"the client left {len(paths)} files")
    return paths[0]


def _first_of(work: Path, *commands: Sequence[str]) -> None:
    """Run commands until one succeeds.

    Raises:
        CollectError: As the first one failed, if none succeeds.
    """
    failure: CollectError | None = None
    for command in commands:
        try:
            _run(work, *command)
        except CollectError as error:
            failure = failure or error
        else:
            return
    if failure is not None:
        raise failure


def _run(work: Path, *command: str) -> bytes:
    """Run a client in a folder, and return its output.

    Raises:
        CollectError: If it is not installed, fails or takes too long.
    """
    try:
        done = subprocess.run(command, cwd=work, capture_output=True, timeout=_SECONDS)
    except FileNotFoundError as error:
        raise CollectError(f"{command[0]} is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise CollectError(f"{command[0]} took more than {_SECONDS} s") from error
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise CollectError(f"{command[0]}: {lines[-1] if lines else 'failed'}")
    return done.stdout


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def main(arguments: Sequence[str]) -> int:
    """Collect the PDFs of a folder of questions; return the exit code."""
    if len(arguments) != 2:
        sys.stderr.write("usage: collect QUESTIONS_FOLDER PDF_FOLDER\n")
        return 2
    try:
        entries = read_questions(Path(arguments[0])).documents.values()
    except NsaError as error:
        sys.stderr.write(f"{error.message}\n")
        return error.exit_code
    missing = 0
    for entry in entries:
        try:
            said = "fetched" if collect(entry, Path(arguments[1])) else "there already"
        except (CollectError, OSError, KeyError, tarfile.TarError, zipfile.BadZipFile) as error:
            missing += 1
            said = f"not collected: {error}"
        sys.stdout.write(f"{entry.id}: {said}\n")
        sys.stdout.flush()
    sys.stdout.write(f"{len(entries) - missing} of {len(entries)} documents\n")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
