"""HTML: the text that a browser shows, each block with the line it stands on in the file."""

from __future__ import annotations

from dataclasses import dataclass
from html.parser import HTMLParser

from nsa_cli.documents.build import Builder
from nsa_cli.documents.document import Document
from nsa_cli.documents.text import read_text

_HIDDEN = frozenset(["script", "style", "noscript", "template", "svg"])
_INLINE = frozenset(
    [
        "a",
        "abbr",
        "acronym",
        "b",
        "bdi",
        "bdo",
        "big",
        "cite",
        "code",
        "data",
        "del",
        "dfn",
        "em",
        "font",
        "i",
        "img",
        "ins",
        "kbd",
        "label",
        "mark",
        "q",
        "s",
        "samp",
        "small",
        "span",
        "strong",
        "sub",
        "sup",
        "time",
        "tt",
        "u",
        "var",
        "wbr",
        "input",
        "button",
    ]
)
_VOID = frozenset(["area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta"])
_PREFIX = {f"h{level}": "#" * level + " " for level in range(1, 7)} | {"li": "- "}


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A paragraph, heading, item or row.

    Attributes:
        prefix: What marks its kind, such as `## `.
        text: Its words.
        line: The line of the file that it begins on, from 1.
    """

    prefix: str
    text: str
    line: int


def read(data: bytes, name: str) -> Document:
    """Read an HTML page.

    Raises:
        UnreadableError: If it is not text, or shows none.
    """
    source = read_text(data, name)
    builder = Builder(name)
    for number, block in enumerate(blocks(source.text)):
        builder.between(
            ("\n\n" if number and block.prefix.startswith("#") else "\n") * bool(number)
        )
        builder.between(block.prefix)
        builder.add(block.text, first_line=block.line)
    return builder.document(source.warnings)


def blocks(text: str) -> list[Block]:
    """The blocks that a page shows, in order, its title first."""
    parser = _Parser()
    parser.feed(text)
    parser.close()
    parser.end_block()
    return parser.found


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[Block] = []
        self._words: list[str] = []
        self._line = 0
        self._prefix = ""
        self._hidden: list[str] = []
        self._title = False
        self._pre = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "title" and "svg" not in self._hidden:
            self._title = True
        elif tag in _HIDDEN:
            self._hidden.append(tag)
        elif tag in ("td", "th"):
            if self._words:
                self._words.append(" | ")
        elif tag == "img":
            self._take(dict(attrs).get("alt") or "")
        elif tag not in _INLINE:
            if not (tag == "p" and self._prefix and not self._words):
                self.end_block()
            self._prefix = _PREFIX.get(tag, self._prefix)
            self._pre += tag == "pre"

    def handle_endtag(self, tag: str) -> None:
        if tag == "title":
            self._title = False
            self.end_block()
        elif tag in _HIDDEN:
            if tag in self._hidden:
                while self._hidden.pop() != tag:
                    pass
        elif tag not in _INLINE and tag not in _VOID and tag not in ("td", "th"):
            self.end_block()
            self._pre -= tag == "pre" and self._pre > 0

    def handle_data(self, data: str) -> None:
        if self._hidden and not self._title:
            return
        if not self._pre:
            self._take(data)
            return
        line = self.getpos()[0]
        for number, text in enumerate(data.split("\n")):
            if number:
                self.end_block()
            self._line = self._line if self._words else line + number
            self._words.append(text)

    def _take(self, data: str) -> None:
        if self._hidden and not self._title:
            return
        if not self._words:
            blank = len(data) - len(data.lstrip())
            if blank == len(data):
                return
            self._line = self.getpos()[0] + data[:blank].count("\n")
        self._words.append(data)

    def end_block(self) -> None:
        """Keep the block that has come to its end."""
        text = "".join(self._words)
        text = text.rstrip() if self._pre else " ".join(text.split())
        if text.strip(" |"):
            self.found.append(Block(prefix=self._prefix, text=text, line=max(1, self._line)))
            self._prefix = ""
        self._words = []
