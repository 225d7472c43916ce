"""The structure of a PDF, by pypdf: encryption, pages, labels, and the errors of damaged files."""

from __future__ import annotations

import logging
import shlex
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO

import pypdfium2
from pypdf import PdfReader

from nsa_cli.documents.errors import UnreadableError
from nsa_cli.documents.pdf.clean import clean_label
from nsa_cli.documents.pdf.object_streams import LazyReader
from nsa_cli.documents.pdf.pdfium import PDFIUM_LOCK

_MAGIC = b"%PDF-"

_HARMLESS = (
    "fontTools is required",
    "Ignoring wrong pointing object",
    "Multiple definitions in",
    "parsing for Object Streams",
    "Token exceeds maximum length",
)
"""Beginnings of what pypdf says about sound files too."""


def without_preamble(data: bytes) -> bytes:
    """The bytes from the header on, where a mail or a web server put others before it."""
    start = data.find(_MAGIC)
    return data[start:] if start > 0 else data


def open_structure(data: bytes, name: str, password: str | None) -> PdfReader:
    """Open a PDF with the empty password or another.

    Raises:
        UnreadableError: The file is damaged (`broken`) or needs another password (`encrypted`).
    """
    with as_broken(name):
        try:
            reader = LazyReader(BytesIO(data))
            # The empty password is tried first: it opens files that only restrict printing.
            locked = reader.is_encrypted and not (
                reader.decrypt("") or (password and reader.decrypt(password))
            )
        except NotImplementedError as error:
            raise UnreadableError(
                f"{name} has an encryption that nsa cannot open ({error})",
                hint="save a copy without encryption",
                code="encrypted",
            ) from error
        if not locked:
            return reader
    if password is None:
        raise UnreadableError(
            f"{name} is encrypted and needs a password", hint="pass --password", code="encrypted"
        )
    raise UnreadableError(
        f"{name} does not open with this password",
        hint="pass the right one with --password",
        code="encrypted",
    )


def repaired(data: bytes, password: str | None) -> bytes | None:
    """A damaged file as PDFium writes it, which finds objects that pypdf does not.

    Args:
        data: The bytes of the file.
        password: Opens it, if it is encrypted.

    Returns:
        The bytes of the whole file; None if PDFium does not find any page either.
    """
    out = BytesIO()
    with PDFIUM_LOCK:
        try:
            with pypdfium2.PdfDocument(data, password=password) as document:
                if not len(document):
                    return None
                document.save(out)
        except pypdfium2.PdfiumError:
            return None
    return out.getvalue()


def page_labels(reader: PdfReader, count: int) -> list[str | None]:
    """The printed name of each page where it differs from its number."""
    try:
        labels = list(reader.page_labels)
    except MemoryError:
        raise
    except Exception as error:  # Damaged labels are no reason to refuse a text that can be read.
        logging.getLogger("pypdf").warning("page labels: %s", error)
        labels = []
    cleaned = [clean_label(label) for label in labels[:count]]
    cleaned += [""] * (count - len(cleaned))
    return [
        label if label and label != str(number) else None
        for number, label in enumerate(cleaned, start=1)
    ]


def damage_warning(complaints: Sequence[str]) -> tuple[str, ...]:
    """One warning for all that pypdf complained about, quoting the first."""
    serious = [said for said in complaints if not said.startswith(_HARMLESS)]
    if not serious:
        return ()
    more = f", and {len(serious) - 1} more" if len(serious) > 1 else ""
    return (f"the PDF is damaged and some text may be missing or wrong ({serious[0]}{more})",)


def broken(name: str, cause: str, where: str = "") -> UnreadableError:
    """The error for a damaged file."""
    return UnreadableError(
        f"{name} is a damaged PDF{' ' * bool(where)}{where} ({cause})",
        hint=f"get it again, or repair it, e.g. `qpdf {shlex.quote(name)} repaired.pdf`",
        code="broken",
    )


@contextmanager
def as_broken(name: str, where: str = "") -> Iterator[None]:
    """Turn any error that pypdf raises on damaged files into `broken`."""
    try:
        yield
    except (UnreadableError, MemoryError):
        raise
    except Exception as error:
        lines = str(error).splitlines()
        cause = lines[0][:120] if lines else type(error).__name__
        raise broken(name, cause, where) from error


class _Complaints(logging.Handler):
    """Keeps what is logged, on one line and cut short, instead of printing it."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.startswith("pypdf.") or record.name == "pypdf":
            self.said.append(" ".join(record.getMessage().split())[:120])


@contextmanager
def quiet_libraries() -> Iterator[list[str]]:
    """Keep the libraries' logs and warnings off the terminal; gives what pypdf logs."""
    loggers = [logging.getLogger("pypdf"), logging.getLogger("pypdfium2")]
    handler, before = _Complaints(), [logger.propagate for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.propagate = False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield handler.said
    finally:
        for logger, propagate in zip(loggers, before, strict=True):
            logger.propagate = propagate
            logger.removeHandler(handler)
