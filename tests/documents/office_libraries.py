"""Word recall of libraries that read office files, beside the readers of this project.

Run as `python -m tests.documents.office_libraries FOLDER`. Libraries that are not installed are
left out; they are mammoth, docx2python, markitdown, odfdo, odfpy and python-calamine.
"""

from __future__ import annotations

import importlib
import logging
import sys
import time
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from nsa_cli.documents import parse_document
from tests.documents.office_recall import WORD, reference


def _nsa(path: Path) -> str:
    return parse_document(str(path), path.read_bytes()).text


def _python_docx(path: Path) -> str:
    docx = importlib.import_module("docx")
    document = docx.Document(str(path))
    cells = [cell.text for table in document.tables for row in table.rows for cell in row.cells]
    return "\n".join([*(paragraph.text for paragraph in document.paragraphs), *cells])


def _mammoth(path: Path) -> str:
    with path.open("rb") as file:
        return str(importlib.import_module("mammoth").extract_raw_text(file).value)


def _docx2python(path: Path) -> str:
    with importlib.import_module("docx2python").docx2python(path) as document:
        return "\n".join([document.text, *map(str, document.comments or [])])


def _markitdown(path: Path) -> str:
    return str(importlib.import_module("markitdown").MarkItDown().convert(str(path)).text_content)


def _python_pptx(path: Path) -> str:
    def texts(shapes: Any) -> Iterator[str]:
        for shape in shapes:
            if hasattr(shape, "shapes"):
                yield from texts(shape.shapes)
            elif shape.has_text_frame:
                yield shape.text_frame.text
            elif shape.has_table:
                yield from (cell.text for row in shape.table.rows for cell in row.cells)
            elif shape.has_chart:
                for plot in shape.chart.plots:
                    yield " ".join(map(str, plot.categories))
                    yield from (f"{s.name} {' '.join(map(str, s.values))}" for s in plot.series)

    slides = importlib.import_module("pptx").Presentation(str(path)).slides
    return "\n".join(text for slide in slides for text in texts(slide.shapes))


def _openpyxl(path: Path) -> str:
    load = importlib.import_module("openpyxl").load_workbook
    book = load(str(path), read_only=True, data_only=True)
    rows = [row for sheet in book.worksheets for row in sheet.iter_rows(values_only=True)]
    return "\n".join(" ".join(str(value) for value in row if value is not None) for row in rows)


def _calamine(path: Path) -> str:
    book = importlib.import_module("python_calamine").CalamineWorkbook.from_path(str(path))
    rows = [row for name in book.sheet_names for row in book.get_sheet_by_name(name).to_python()]
    return "\n".join(" ".join(map(str, row)) for row in rows)


def _odfdo(path: Path) -> str:
    return str(importlib.import_module("odfdo").Document(str(path)).get_formatted_text())


def _odfpy(path: Path) -> str:
    text = importlib.import_module("odf.text")
    extract = importlib.import_module("odf.teletype").extractText
    document = importlib.import_module("odf.opendocument").load(str(path))
    elements = [*document.getElementsByType(text.P), *document.getElementsByType(text.H)]
    return "\n".join(map(extract, elements))


READERS: dict[str, dict[str, Callable[[Path], str]]] = {
    ".docx": {
        "python-docx": _python_docx,
        "mammoth": _mammoth,
        "docx2python": _docx2python,
        "markitdown": _markitdown,
        "nsa": _nsa,
    },
    ".pptx": {"python-pptx": _python_pptx, "markitdown": _markitdown, "nsa": _nsa},
    ".xlsx": {
        "openpyxl": _openpyxl,
        "calamine": _calamine,
        "markitdown": _markitdown,
        "nsa": _nsa,
    },
    ".odt": {"odfdo": _odfdo, "odfpy": _odfpy, "nsa": _nsa},
    ".odp": {"odfdo": _odfdo, "odfpy": _odfpy, "nsa": _nsa},
    ".ods": {"odfdo": _odfdo, "calamine": _calamine, "odfpy": _odfpy, "nsa": _nsa},
}


def main() -> int:
    """Print a row for each format and library."""
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    print("| Format | Library | Files | Failed | Mean recall | Files without a loss | CPU s |")
    print("|---|---|---|---|---|---|---|")
    for suffix, readers in READERS.items():
        files = [
            (path, words)
            for path in sorted(Path(sys.argv[1]).rglob(f"*{suffix}"))
            if zipfile.is_zipfile(path) and (words := reference(path))
        ]
        for name, read in readers.items():
            _row(suffix, name, read, files)
    return 0


def _row(
    suffix: str, name: str, read: Callable[[Path], str], files: list[tuple[Path, Counter[str]]]
) -> None:
    recalls: list[float] = []
    failed = 0
    begun = time.process_time()
    for path, words in files:
        try:
            found = Counter(WORD.findall(read(path)))
        except ModuleNotFoundError:
            return
        except Exception:  # a library may fail in any way; that is what is counted
            failed += 1
            found = Counter()
        recalls.append((words & found).total() / words.total())
    whole = sum(recall >= 1 for recall in recalls)
    seconds = time.process_time() - begun
    mean = sum(recalls) / max(1, len(recalls))
    print(f"| {suffix} | {name} | {len(files)} | {failed} | {mean:.3f} | {whole} | {seconds:.1f} |")


if __name__ == "__main__":
    sys.exit(main())
