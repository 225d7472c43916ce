"""A small suite: PDFs that are made here, and questions about them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

PAGES = {
    "lease": [
        "Lease of a flat\nThe landlord is Ada Byron.\nThe rent is 1,250.50 euros a month.",
        "Notice\nThe tenant may end the lease with a notice of three months.",
    ],
    "report": [
        "Annual report 2019\nRevenue was 12.4 million.",
        "Costs\nCosts were 10.1 million.\nThe staff had 42 members.",
        "Outlook\nNext year will be better.",
    ],
}


def make_pdf(pages: list[str]) -> bytes:
    """A PDF that shows the lines of each page in Helvetica."""
    kids = " ".join(f"{4 + 2 * number} 0 R" for number in range(len(pages)))
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for number, page in enumerate(pages):
        shown = " T* ".join(f"({line}) Tj" for line in page.split("\n"))
        content = f"BT /F1 12 Tf 14 TL 72 720 Td {shown} ET"
        objects += [
            (
                "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] "
                f"/Contents {5 + 2 * number} 0 R /Resources << /Font << /F1 3 0 R >> >> >>"
            ),
            f"<< /Length {len(content)} >>\nstream\n{content}\nendstream",
        ]
    out, offsets = b"%PDF-1.7\n", list[int]()
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += f"{number} 0 obj\n{body}\nendobj\n".encode()
    table = "".join(f"{offset:010d} 00000 n \n" for offset in offsets)
    trailer = f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{len(out)}\n%%EOF\n"
    return out + f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}{trailer}".encode()


def question(name: str, kind: str, answers: list[list[str]], **more: Any) -> dict[str, Any]:
    """A question in the form of the files."""
    pages = more.pop("pages", [[1]] if answers else [])
    asked = f"What about {name}, as the document says?"
    return {"id": name, "question": asked, "kind": kind, "answers": answers, "pages": pages, **more}


QUESTIONS = {
    "lease": [
        question("lease-01", "lookup", [["1,250.50 euros", "1250.5"]]),
        question("lease-02", "lookup", [["three months", "3 months"]], pages=[[2]]),
        question("lease-03", "unanswerable", []),
    ],
    "report": [
        question("report-01", "computed", [["2.3 million"]], pages=[[1], [2]]),
        question(
            *("report-02", "compare", [["Ada"], ["42"]]),
            pages=[[2]],
            document2="lease",
            pages2=[[1]],
            wrong=["43"],
        ),
    ],
}


@dataclass(frozen=True)
class Suite:
    """Folders of a suite: of questions and of PDFs."""

    questions: Path
    documents: Path

    def file(self, name: str) -> dict[str, Any]:
        """The question file of a document."""
        row: dict[str, Any] = json.loads((self.questions / f"{name}.json").read_text())
        return row

    def write(self, name: str, **changes: Any) -> None:
        """Change the question file of a document."""
        row = {**self.file(name), **changes}
        (self.questions / f"{name}.json").write_text(json.dumps(row))


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    """Two documents and five questions."""
    found = Suite(tmp_path / "questions", tmp_path / "pdfs")
    found.questions.mkdir()
    found.documents.mkdir()
    for name, pages in PAGES.items():
        data = make_pdf(pages)
        (found.documents / f"{name}.pdf").write_bytes(data)
        row = {
            "id": name,
            "title": name.title(),
            "kind": "contract",
            "language": "en",
            "source": {"from": "github", "name": "owner/name", "version": "0" * 40, "path": "a"},
            "sha256": hashlib.sha256(data).hexdigest(),
            "bytes": len(data),
            "pages": len(pages),
            "questions": QUESTIONS[name],
        }
        (found.questions / f"{name}.json").write_text(json.dumps(row))
    return found
