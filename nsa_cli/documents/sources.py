"""Files, folders, globs, URLs and standard input, as the user names them, become sources."""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from nsa_cli.documents.build import join_documents
from nsa_cli.documents.compressed import MOST_BYTES, is_compressed
from nsa_cli.documents.decoding import may_be_text
from nsa_cli.documents.document import Document
from nsa_cli.documents.errors import UnreadableError
from nsa_cli.documents.formats.archive import container_of
from nsa_cli.documents.load import parse_document, read_source
from nsa_cli.documents.names import existing_name, is_url, matching_names
from nsa_cli.documents.pages import PageRanges
from nsa_cli.documents.rotation import in_order
from nsa_cli.documents.urls.access import WebAccess, not_fetched
from nsa_cli.documents.walk import files_of
from nsa_models.errors import DoesNotFitError, NsaError, UsageError

_MOST_FILES = 20_000
_MOST_SHOWN = 5
_PLURALS = {
    "binary file": "binary files",
    "empty file": "empty files",
    "folder that cannot be listed": "folders that cannot be listed",
    "link": "links",
}
"""Why a file of a folder is left out, for one and for several."""

_HEAD = 8192
_COMPOUND = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A file to read.

    Attributes:
        path: As citations name it, or `-`.
        named: Whether the user named it, so that it must be readable.
    """

    path: str
    named: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A file that was read.

    Attributes:
        name: As citations name it.
        data: Its bytes.
        named: Whether the user named it, so that it must be readable.
        suffix: Suffix of its format where its name does not decide, such as `.html` for a URL.
    """

    name: str
    data: bytes
    named: bool
    suffix: str = ""


def find_sources(
    arguments: Sequence[str],
    *,
    on_note: Callable[[str], None] | None = None,
    binary: bool = False,
) -> list[Found]:
    """The files that some arguments name, each once, the parts of a rotated log in order.

    Args:
        arguments: Paths of files and folders, globs such as `docs/**/*.md`, URLs, or `-`.
        on_note: Called with one line for each reason why files of a folder are left out; an empty
            file, and one that cannot be opened, is found all the same and told when it is read.
        binary: Whether binary files of folders are found, too, and told when they are read.

    Raises:
        UnreadableError: If a folder has nothing to read, or a glob names nothing.
        UsageError: If standard input is named twice, or nothing at all.
        DoesNotFitError: If they are more files than can be read at once.
    """
    if not arguments:
        raise UsageError("no document", hint="name a file or a folder")
    if list(arguments).count("-") > 1:
        raise UsageError("- is named twice", hint="standard input can be read once")
    found: dict[str, Found] = {}
    skipped = _Skipped(binary=binary)
    for argument in arguments:
        for each in _expand(argument, skipped):
            is_file = each.path != "-" and not is_url(each.path)
            key = os.path.realpath(each.path) if is_file else each.path
            if key not in found or (each.named and not found[key].named):
                found[key] = each
            if len(found) > _MOST_FILES:
                raise DoesNotFitError(
                    f"{argument} holds more than {_MOST_FILES:,} files",
                    hint="name a folder inside it, or a glob such as 'src/**/*.py'",
                    code="too_many_files",
                )
    if on_note is not None:
        for note in skipped.notes():
            on_note(note)
    return in_order(list(found.values()), lambda each: each.path)


class _Skipped:
    """Files of folders that are not read, by the reason.

    Attributes:
        binary: Whether binary files are read all the same.
    """

    def __init__(self, *, binary: bool) -> None:
        self.binary = binary
        self._paths: dict[str, list[str]] = {}

    def add(self, reason: str, path: str) -> None:
        """Note a file; `reason` is one of `_PLURALS`."""
        self._paths.setdefault(reason, []).append(path)

    def notes(self) -> list[str]:
        """One line for each reason, with the first paths."""
        return [
            f"{_counted(len(paths), reason)} left out: {_listed(paths)}"
            for reason, paths in self._paths.items()
        ]


def _counted(count: int, kind: str) -> str:
    return f"1 {kind}" if count == 1 else f"{count:,} {_PLURALS[kind]}"


def _listed(paths: Sequence[str]) -> str:
    shown = ", ".join(paths[:_MOST_SHOWN])
    return f"{shown}, …" if len(paths) > _MOST_SHOWN else shown


def _expand(argument: str, skipped: _Skipped) -> Iterable[Found]:
    if argument == "-" or is_url(argument):
        return [Found(path=argument, named=True)]
    argument = existing_name(argument)
    if os.path.isdir(argument):  # noqa: PTH112 - a NUL in the name is no error here
        return _folder(argument, skipped)
    if glob.has_magic(argument) and not os.path.lexists(argument):
        matches = matching_names(argument)
        if not matches:
            is_question = argument.rstrip().endswith("?") and len(argument.split()) > 1
            hint = "give each question with --ask" if is_question else "check the pattern"
            raise UnreadableError(f"{argument} matches no file", hint=hint, code="missing")
        found: list[Found] = []
        for match in matches:
            if Path(match).is_dir():
                found += [] if "**" in argument else _folder(match, skipped, may_be_empty=True)
            else:
                found.append(Found(path=match, named=False))
        return found
    return [Found(path=argument, named=True)]


def _folder(folder: str, skipped: _Skipped, *, may_be_empty: bool = False) -> list[Found]:
    found = []
    try:
        for path in files_of(folder, skipped.add):
            if skipped.binary or may_be_read(path):
                found.append(Found(path=path, named=False))
            else:
                skipped.add("binary file", path)
            if len(found) > _MOST_FILES:
                break
    except OSError as error:
        raise UnreadableError(
            f"{folder} cannot be listed ({error.strerror or error})",
            hint="check its permissions with `ls -ld`",
            code="permission",
        ) from error
    if not found and not may_be_empty:
        raise UnreadableError(
            f"{folder} has no readable file",
            hint="nsa skips hidden and binary files, and what .gitignore names; "
            "name a file to read it anyway",
            code="empty",
        )
    return found


def may_be_read(path: str) -> bool:
    """Whether a file of a folder looks like a document or a text, or is empty."""
    try:
        with Path(path).open("rb") as file:
            head = file.read(_HEAD)
            if head.startswith(b"PK\x03\x04"):
                return container_of(head + file.read(MOST_BYTES), path) is not None
    except (NsaError, OSError):  # told when it is read, not hidden
        return True
    if not head.strip() or head.startswith((b"%PDF-", _COMPOUND)) or is_compressed(head):
        return True
    return path.lower().endswith(".pdf") or may_be_text(head)


def read_sources(
    arguments: Sequence[str],
    *,
    on_note: Callable[[str], None],
    stdin: BinaryIO | None = None,
    web: WebAccess | None = None,
) -> list[Source]:
    """Find and read files; report and skip those that vanish from a folder meanwhile.

    Args:
        arguments: As for `find_sources`.
        on_note: Called with one line about each file that is left out.
        stdin: What to read for `-`; the standard input of the process when None.
        web: How URLs are fetched; None to refuse them.

    Raises:
        NsaError: If what the user named cannot be read, or nothing is left.
    """
    sources: list[Source] = []
    total = 0
    for found in find_sources(arguments, on_note=on_note):
        try:
            source = read_one(found, on_note=on_note, stdin=stdin, web=web)
        except UnreadableError as error:
            if found.named:
                raise
            on_note(f"{error.message}; left out")
            continue
        total += len(source.data)
        if total > 2 * MOST_BYTES:
            raise DoesNotFitError(
                f"{', '.join(arguments)} has more than {2 * MOST_BYTES >> 20} MB",
                hint="name fewer files",
                code="too_large",
            )
        sources.append(source)
    return sources


def read_one(
    found: Found,
    *,
    on_note: Callable[[str], None],
    stdin: BinaryIO | None = None,
    web: WebAccess | None = None,
) -> Source:
    """Read one file, or fetch one URL; arguments and errors as for `read_sources`."""
    if not is_url(found.path):
        name, data = read_source(found.path, stdin=stdin)
        return Source(name=name, data=data, named=found.named)
    if web is None:
        raise not_fetched(found.path)
    from nsa_cli.documents.urls.fetch import fetch  # with the libraries of HTTP and TLS

    fetched = fetch(found.path, web)
    for note in fetched.notes:
        on_note(note)
    return Source(name=found.path, data=fetched.data, named=True, suffix=fetched.suffix)


def parse_sources(
    sources: Sequence[Source],
    name: str,
    *,
    password: str | None = None,
    pages: PageRanges | None = None,
    ocr: str | None = None,
    hidden: bool = False,
    on_page: Callable[[str, int, int], None] | None = None,
    on_note: Callable[[str], None],
) -> Document:
    """Parse sources into one document.

    Args:
        sources: From `read_sources`.
        name: Name of all of them together.
        password: Password of encrypted PDFs.
        pages: Pages to read; all when None.
        ocr: Languages for optical character recognition of scanned pages, or None.
        hidden: Whether to read text that a reader does not see.
        on_page: Called with a file's name, its pages done and its pages in all.
        on_note: Called with a line about each skipped file of a folder.

    Raises:
        NsaError: If a source that the user named cannot be read, or none has text.
    """
    documents, empty = list[Document](), list[str]()
    last: NsaError | None = None
    for source in sources:

        def told(done: int, total: int, name: str = source.name) -> None:
            if on_page is not None:
                on_page(name, done, total)

        try:
            one = parse_document(
                *(source.name, source.data),
                suffix=source.suffix,
                password=password,
                on_page=told,
                pages=pages,
                ocr=ocr,
                hidden=hidden,
            )
            documents.append(one)
        except (UnreadableError, DoesNotFitError, UsageError) as error:
            if source.named or len(sources) == 1:
                raise
            last = error
            if source.data.strip():
                on_note(f"{error.message}; left out")
            else:
                empty.append(source.name)
    if empty:
        on_note(f"{_counted(len(empty), 'empty file')} left out: {_listed(empty)}")
    if not documents:
        raise last or UnreadableError(
            f"{name} has nothing to read", hint="name a file with text in it", code="empty"
        )
    return join_documents(documents, name)


def title(arguments: Sequence[str], count: int) -> str:
    """A name for all sources together, for progress and messages."""
    if len(arguments) == 1:
        return arguments[0] if count == 1 else f"{arguments[0]} ({count:,} files)"
    return f"{count:,} files"


def digest(sources: Sequence[Source]) -> bytes:
    """A hash of the names and the bytes of some sources."""
    whole = hashlib.sha256()
    for source in sources:
        name = source.name + (f"\0{source.suffix}" if source.suffix else "")
        for part in (name.encode("utf-8", "surrogateescape"), source.data):
            whole.update(len(part).to_bytes(8, "big") + part)
    return whole.digest()
