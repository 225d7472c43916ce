"""PDF libraries by the measure of `tests.documents.recall`.

Run: python -m tests.documents.pdf_libraries FOLDER --reader NAME

NAME is pypdf, pypdfium2, pdfminer, pdfplumber, pdftotext or nsa.

pdfminer.six and pdfplumber are not dependencies of this project: install them first.
"""

from __future__ import annotations

import importlib
import subprocess
from pathlib import Path

from tests.documents.recall import READERS, Extraction, main


def pypdf(path: Path) -> Extraction:
    """What pypdf gives by itself."""
    library = importlib.import_module("pypdf")
    return "\n".join(page.extract_text() for page in library.PdfReader(path).pages), ()


def pypdfium2(path: Path) -> Extraction:
    """What PDFium's text pages give, without annotations."""
    library = importlib.import_module("pypdfium2")
    with library.PdfDocument(path) as document:
        return "\n".join(page.get_textpage().get_text_range() for page in document), ()


def pdfminer(path: Path) -> Extraction:
    """What pdfminer.six gives, by its layout analysis."""
    library = importlib.import_module("pdfminer.high_level")
    return library.extract_text(path), ()


def pdfplumber(path: Path) -> Extraction:
    """What pdfplumber gives."""
    library = importlib.import_module("pdfplumber")
    with library.open(path) as document:
        return "\n".join(page.extract_text() for page in document.pages), ()


def pdftotext(path: Path) -> Extraction:
    """What poppler gives in the order of the file."""
    command = ["pdftotext", "-raw", "-enc", "UTF-8", str(path), "-"]
    return subprocess.run(command, capture_output=True, check=False).stdout.decode(), ()


READERS.update(pdftotext=pdftotext)
READERS.update(pypdf=pypdf, pypdfium2=pypdfium2, pdfminer=pdfminer, pdfplumber=pdfplumber)

if __name__ == "__main__":
    main()
