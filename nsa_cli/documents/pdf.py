"""PDF files become documents, page by page."""

from __future__ import annotations

import logging
import re
import shlex
import unicodedata
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

from pypdf import PageObject, PdfReader

from nsa_cli.documents.document import Document, Piece
from nsa_cli.documents.hyphens import mend_hyphens
from nsa_cli.documents.pages import PageRanges
from nsa_cli.documents.word_gaps import SPACE_WIDTH, gaps_become_spaces
from nsa_models.errors import UnreadableError

PAGE_BREAK = "\n\n"
"""What stands between two pages: a blank line, which belongs to neither."""

_LIGATURES = str.maketrans(
    {"ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "st", "ﬆ": "st"}
)
_NOISE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_LEADERS = re.compile(r"(?<![ \t])[ \t]*(?:[.·․…][ \t]{0,3}){5,}")
_LINE_TAIL = re.compile(r"[ \t]+(?=\n|\Z)")

_HARMLESS = ("fontTools is required", "Ignoring wrong pointing object", "Multiple definitions in")
"""Beginnings of what pypdf says about sound files too."""


def read_pdf(
    path_or_bytes: str | Path | bytes,
    name: str,
    *,
    password: str | None,
    on_page: Callable[[int, int], None] | None = None,
    pages: PageRanges | None = None,
    ocr: str | None = None,
) -> Document:
    """Read the text of a PDF into a document of one piece per page that has text.

    The text is what the page shows, headers and footers included, in the order of the file and
    normalised to NFC, as the tokenizer needs. These things are changed, and no line is added or
    removed by them: words broken by a hyphen at a line end are joined, ligatures become
    letters, runs of five and more leader dots ("Purpose ........ 3") become " ... " because
    they would cost tokens and say nothing, spaces at line ends and characters that cannot be
    shown (controls, lone surrogates) go. Pages without text give a warning that names them, and
    so does damage that pypdf could work around.

    Args:
        path_or_bytes: The file, or its bytes.
        name: The path as the user typed it, for citations and messages.
        password: The password, or None; a PDF with an empty password opens without.
        on_page: Called with the pages done and the pages in all, after each.
        pages: Those to read; all when None.
        ocr: Languages in which pages without text are read from their pictures; None to leave
            them out.

    Raises:
        UsageError: It has none of these pages.
        UnreadableError: The file is damaged (`broken`), needs another password (`encrypted`),
            has no page (`empty`), or has pages but no text on any (`scanned`).
    """
    data = path_or_bytes if isinstance(path_or_bytes, bytes) else Path(path_or_bytes).read_bytes()
    with _quiet_pypdf() as complaints:
        reader = _open(data, name, password)
        with _as_broken(name):
            sheets = list(reader.pages)
        wanted = _wanted(len(sheets), pages, name)
        texts = [""] * len(sheets)
        for done, number in enumerate(wanted, start=1):
            with _as_broken(name, f"at page {number}"):
                texts[number - 1] = _page_text(sheets[number - 1])
            if on_page is not None:
                on_page(done, len(wanted))
        damage = _damage_warning(complaints)
        complaints.clear()
        labels = _page_labels(reader, len(sheets))
        label_warnings = ("the page labels are damaged",) if complaints else ()
    if not sheets:
        raise UnreadableError(
            f"{name} has no pages", hint="name a PDF with text in it", code="empty"
        )
    seen = [number for number in wanted if not texts[number - 1]] if ocr is not None else []
    if ocr is not None and seen:
        from nsa_cli.documents.ocr import fast_encoder

        found = fast_encoder(data, seen, ocr, name, password=password, on_page=on_page)
        for number, text in found.items():
            texts[number - 1] = _clean(text)
    texts = [unicodedata.normalize("NFC", text) for text in mend_hyphens(texts)]
    seen = [number for number in seen if texts[number - 1]]
    blank = [number for number in wanted if not texts[number - 1]]
    if len(blank) == len(wanted):
        raise UnreadableError(
            f"{name} has no text layer (scanned?)" if ocr is None else f"{name} has no text",
            hint=f"read it with --ocr eng, or run `ocrmypdf {shlex.quote(name)} out.pdf` first"
            if ocr is None
            else "say another language with --ocr",
            code="scanned",
        )
    return Document(
        name=name,
        text=PAGE_BREAK.join(text for text in texts if text),
        pieces=_pieces(texts, labels, name),
        warnings=(
            *_about(seen, "read by OCR, which may be wrong in places", past=True),
            *_about(blank, "no text (scanned? --ocr reads them)" if ocr is None else "no text"),
            *damage,
            *label_warnings,
        ),
    )


def _wanted(count: int, pages: PageRanges | None, name: str) -> list[int]:
    """Numbers of the pages to read."""
    numbers = list(range(1, count + 1))
    if pages is None or not numbers:
        return numbers
    pages.check(numbers, name)
    return [number for number in numbers if number in pages]


def _open(data: bytes, name: str, password: str | None) -> PdfReader:
    with _as_broken(name):
        try:
            reader = PdfReader(BytesIO(data))
            # The empty password is tried first: it opens files that only restrict printing.
            locked = reader.is_encrypted and not (
                reader.decrypt("") or (password and reader.decrypt(password))
            )
        except NotImplementedError as error:
            raise UnreadableError(
                f"{name} is encrypted in a way that cannot be opened ({error})",
                hint="save it without encryption first",
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


def _page_text(page: PageObject) -> str:
    """The text of one page, cleaned of everything but broken words."""
    with gaps_become_spaces():
        return _clean(page.extract_text(space_width=SPACE_WIDTH))


def _clean(text: str) -> str:
    """A page's text without what cannot be shown or says nothing."""
    if _SURROGATE.search(text):  # Pairs become the character they stand for, the rest goes.
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "ignore")
    text = text.replace("\r\n", "\n").replace("\r", "\n").translate(_LIGATURES)
    text = _LEADERS.sub(" ... ", _NOISE.sub("", text))
    text = _LINE_TAIL.sub("", text)
    return text.strip("\n") if text.strip() else ""


def _page_labels(reader: PdfReader, count: int) -> list[str | None]:
    """The printed name of each page where it differs from its number."""
    try:
        labels = list(reader.page_labels)
    except MemoryError:
        raise
    except Exception as error:  # Damaged labels are no reason to refuse a text that can be read.
        logging.getLogger("pypdf").warning("page labels: %s", error)
        return [None] * count
    cleaned = [_NOISE.sub("", _SURROGATE.sub("", label)).strip() for label in labels]
    return [
        label if label and label != str(number) else None
        for number, label in enumerate(cleaned, start=1)
    ]


def _pieces(texts: Sequence[str], labels: Sequence[str | None], name: str) -> tuple[Piece, ...]:
    """The range of each page that has text, in the pages joined by `PAGE_BREAK`."""
    pieces = []
    start = 0
    for number, (text, label) in enumerate(zip(texts, labels, strict=True), start=1):
        if text:
            end = start + len(text)
            pieces.append(
                Piece(
                    source=name, page=number, page_label=label, start=start, end=end, first_line=1
                )
            )
            start = end + len(PAGE_BREAK)
    return tuple(pieces)


def _about(numbers: Sequence[int], what: str, *, past: bool = False) -> tuple[str, ...]:
    """Name some pages and what they have, or how they were read: `pages 3-5, 9 have no text`."""
    if not numbers:
        return ()
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    named = ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
    one = len(numbers) == 1
    verb = ("was" if one else "were") if past else ("has" if one else "have")
    return (f"page{'' if one else 's'} {named} {verb} {what}",)


def _damage_warning(complaints: Sequence[str]) -> tuple[str, ...]:
    """One warning for all that pypdf complained about, quoting the first."""
    serious = [said for said in complaints if not said.startswith(_HARMLESS)]
    if not serious:
        return ()
    more = f", and {len(serious) - 1} more" if len(serious) > 1 else ""
    return (f"the PDF is damaged and some text may be missing or wrong ({serious[0]}{more})",)


@contextmanager
def _as_broken(name: str, where: str = "") -> Iterator[None]:
    """Turn what pypdf raises on damaged files, whatever its type, into `broken`."""
    try:
        yield
    except (UnreadableError, MemoryError):
        raise
    except Exception as error:
        lines = str(error).splitlines()
        cause = lines[0][:120] if lines else type(error).__name__
        raise UnreadableError(
            f"{name} is a damaged PDF{' ' * bool(where)}{where} ({cause})",
            hint=f"get it again, or repair it, e.g. `qpdf {shlex.quote(name)} repaired.pdf`",
            code="broken",
        ) from error


class _Complaints(logging.Handler):
    """Keeps what is logged, on one line and cut short, instead of printing it."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(" ".join(record.getMessage().split())[:120])


@contextmanager
def _quiet_pypdf() -> Iterator[list[str]]:
    """Keep pypdf's log and warnings off the terminal; gives the list of what it logs."""
    logger = logging.getLogger("pypdf")
    handler, propagate = _Complaints(), logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield handler.said
    finally:
        logger.propagate = propagate
        logger.removeHandler(handler)
