"""Pages without text, read by an OCR engine: Tesseract, where it is installed."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

from nsa_cli.documents.errors import UnreadableError
from nsa_cli.documents.missing import need
from nsa_cli.documents.pdf.pdfium import PDFIUM_LOCK
from nsa_models.errors import UsageError

_DOTS_PER_INCH = 300
_POINTS_PER_INCH = 72
_MOST_PIXELS = 60_000_000
"""Of a page: larger ones are drawn coarser."""


def recognize(
    data: bytes,
    numbers: Sequence[int],
    languages: str,
    name: str,
    *,
    password: str | None = None,
    on_page: Callable[[int, int], None] | None = None,
) -> dict[int, str]:
    """Read pages of a PDF from their pictures.

    Args:
        data: The PDF.
        numbers: Pages, from 1.
        languages: As Tesseract names them, such as `eng` or `deu+eng`.
        name: Of the file, for messages.
        password: Of an encrypted PDF.
        on_page: Called with the pages done and the pages in all, after each.

    Returns:
        The text of each page.

    Raises:
        UsageError: If Tesseract has not learned a language.
        UnreadableError: If it, or a library, is not installed, or a page cannot be drawn.
    """
    pdfium = need("pypdfium2", "pypdfium2", "scanned pages")
    tesseract = need("pytesseract", "pytesseract", "scanned pages")
    check_languages(tesseract, languages)
    texts = {}
    try:
        with PDFIUM_LOCK, pdfium.PdfDocument(data, password=password) as document:
            for done, number in enumerate(numbers, start=1):
                page = document[number - 1]
                width, height = page.get_size()
                area = max(1.0, width * height)
                scale = min(_DOTS_PER_INCH / _POINTS_PER_INCH, (_MOST_PIXELS / area) ** 0.5)
                picture = page.render(scale=scale, grayscale=True).to_pil()
                texts[number] = str(tesseract.image_to_string(picture, lang=languages))
                if on_page is not None:
                    on_page(done, len(numbers))
    except (pdfium.PdfiumError, tesseract.TesseractError, ValueError) as error:
        cause = " ".join(str(error).split())[:120]
        raise UnreadableError(
            f"a page of {name} cannot be read by OCR ({cause})",
            hint="leave --ocr out to read the pages that have text",
            code="ocr",
        ) from error
    return texts


def recognize_pictures(pictures: Sequence[bytes], languages: str) -> list[str | None]:
    """Read pictures.

    Args:
        pictures: Their files.
        languages: As Tesseract names them.

    Returns:
        The text of each; None for one that cannot be opened.

    Raises:
        UsageError: If Tesseract has not learned a language.
        UnreadableError: If it, or a library, is not installed.
    """
    pillow = need("PIL.Image", "pillow", "pictures")
    tesseract = need("pytesseract", "pytesseract", "pictures")
    check_languages(tesseract, languages)
    texts: list[str | None] = []
    for data in pictures:
        try:
            with pillow.open(io.BytesIO(data)) as picture:
                if picture.width * picture.height > _MOST_PIXELS:
                    texts.append(None)
                    continue
                shown = picture.convert("RGBA")
                ground = pillow.new("RGBA", shown.size, "white")
                flat = pillow.alpha_composite(ground, shown).convert("L")
                texts.append(str(tesseract.image_to_string(flat, lang=languages)))
        except MemoryError:
            raise
        except Exception:  # Pillow leaks exceptions of many types from damaged pictures.
            texts.append(None)
    return texts


def check_languages(tesseract: object, languages: str) -> None:
    """Make sure that Tesseract is here and knows some languages; raises as `recognize`."""
    try:
        known = set(tesseract.get_languages())  # type: ignore[attr-defined]
    except OSError as error:  # what is raised where the program is missing is one
        raise UnreadableError(
            "OCR needs the program Tesseract, which is not installed",
            hint="install it, e.g. `apt install tesseract-ocr` or `brew install tesseract`",
            code="missing_library",
        ) from error
    known.discard("osd")
    unknown = [each for each in languages.split("+") if each not in known]
    if unknown:
        raise UsageError(
            f"Tesseract lacks the language {unknown[0]!r}; it has {', '.join(sorted(known))}",
            hint=f"install that language, e.g. `apt install tesseract-ocr-{unknown[0]}`",
        )
