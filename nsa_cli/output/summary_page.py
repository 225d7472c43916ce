"""A summary as text for a terminal or as Markdown, its citations numbered."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from nsa_cli.documents.location import place, printable, short
from nsa_cli.output.layout import shorten_path, wrap
from nsa_cli.output.renderers import citation_line
from nsa_cli.results import Citation, DocumentSummary, Statement

_MARKUP = re.compile(r"([\\`*_\[\]<>])")
_LONGEST_QUOTE = 400


class SummaryPage:
    """Lays out one summary.

    Args:
        width: Cells of the terminal; None for lines of any length.
        markdown: Whether to write Markdown with footnotes.
        outline: Whether several documents have their statements, too.
    """

    def __init__(self, width: int | None, *, markdown: bool, outline: bool = False) -> None:
        self._width = None if markdown else width
        self._markdown = markdown
        self._outline = outline
        self._cited: dict[tuple[object, ...], tuple[int, Citation]] = {}

    def whole(
        self, name: str, overview: Sequence[Statement], documents: Sequence[DocumentSummary]
    ) -> str:
        """Return the summary: one document with its statements, or a paragraph for each.

        Args:
            name: Name of all documents together.
            overview: The paragraph about all of them.
            documents: Each of them.
        """
        blocks = [f"# {self._plain(printable(name))}"] if self._markdown else []
        if overview:
            blocks.append(self._paragraph(overview))
        for document in documents:
            if len(documents) > 1:
                source = printable(document.source)
                if self._width is not None:
                    source = shorten_path(source, self._width)
                blocks.append(self._heading(source))
                if document.overview:
                    blocks.append(self._paragraph(document.overview))
            if len(documents) == 1 or self._outline:
                level = 2 if len(documents) == 1 else 3
                blocks += self._statements(document, level)
        if self._cited:
            blocks.append("\n".join(self._citations()))
        return "\n\n".join(blocks) + "\n" if blocks else ""

    def _paragraph(self, sentences: Sequence[Statement]) -> str:
        return wrap(" ".join(map(self._sentence, sentences)), self._width)

    def _statements(self, document: DocumentSummary, level: int) -> list[str]:
        """The statements below their headings; none if the overview has all of them."""
        told = {sentence.text for sentence in document.overview}
        if all(statement.text in told for statement in document.statements):
            return []
        blocks: list[str] = []
        last: object = object()
        for statement in document.statements:
            title = self._title(statement, level)
            if title != last:
                blocks.append(f"{title}\n" if title else "")
                last = title
            bullet = wrap(f"- {self._sentence(statement)}", self._width, 2)
            blocks[-1] += f"\n{bullet}" if blocks[-1] else bullet
        return [block if self._markdown else block.replace("\n\n", "\n", 1) for block in blocks]

    def _title(self, statement: Statement, level: int) -> str:
        if statement.section is None or statement.place is None:
            return ""
        where = statement.place
        if self._width is not None:
            source = shorten_path(printable(where.source), self._width // 2)
            where = replace(where, source=source)
        return self._heading(f"{statement.section} ({place(where)})", level)

    def _heading(self, title: str, level: int = 2) -> str:
        return f"{'#' * level} {self._plain(title)}" if self._markdown else wrap(title, self._width)

    def _sentence(self, statement: Statement) -> str:
        marks = "".join(self._mark(citation) for citation in statement.citations)
        return self._plain(statement.text) + (
            f" {marks}" if marks and not self._markdown else marks
        )

    def _mark(self, citation: Citation) -> str:
        key = (citation.source, citation.page, citation.line_start, citation.quote)
        number, _ = self._cited.setdefault(key, (len(self._cited) + 1, citation))
        return f"[^{number}]" if self._markdown else f"[{number}]"

    def _citations(self) -> list[str]:
        return [
            self._footnote(number, citation)
            if self._markdown
            else citation_line(number, citation, self._width)
            for number, citation in self._cited.values()
        ]

    def _footnote(self, number: int, citation: Citation) -> str:
        mark = "" if citation.verified else " (not verified)"
        quote = self._plain(short(citation.quote, _LONGEST_QUOTE))
        return f"[^{number}]: {self._plain(place(citation))}: “{quote}”{mark}"

    def _plain(self, text: str) -> str:
        """Escape what Markdown would take for markup."""
        return _MARKUP.sub(r"\\\1", text) if self._markdown else text
