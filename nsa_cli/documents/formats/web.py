"""HTML: the text that a browser shows, each block with its line in the file."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from nsa_cli.documents.build import Builder
from nsa_cli.documents.document import Document
from nsa_cli.documents.formats.left_out import HIDDEN_TEXT, LeftOut
from nsa_cli.documents.formats.raised import mark_before
from nsa_cli.documents.formats.web_hidden import hiding_rules, is_hidden
from nsa_cli.documents.formats.web_tables import Block, TableRows
from nsa_cli.documents.text import read_text

_UNSEEN = frozenset(["script", "style", "noscript", "template", "iframe", "rp"])
"""Elements whose content a browser does not show as text of the page."""

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
        "ruby",
        "rb",
        "rt",
        "time",
        "tt",
        "u",
        "var",
        "wbr",
        "input",
        "button",
        "tspan",
    ]
)
_VOID = frozenset(
    [
        "area",
        "base",
        "br",
        "col",
        "embed",
        "hr",
        "img",
        "input",
        "link",
        "meta",
        "param",
        "source",
        "track",
        "wbr",
    ]
)
_BLOCKS = frozenset(
    [
        "address",
        "article",
        "aside",
        "blockquote",
        "details",
        "div",
        "dl",
        "fieldset",
        "figure",
        "footer",
        "form",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "header",
        "hr",
        "main",
        "nav",
        "ol",
        "p",
        "pre",
        "section",
        "table",
        "ul",
    ]
)
_ENDED_BY = {
    "p": _BLOCKS,
    "li": frozenset(["li"]),
    "dt": frozenset(["dt", "dd"]),
    "dd": frozenset(["dt", "dd"]),
    "tr": frozenset(["tr", "tbody", "tfoot"]),
    "td": frozenset(["td", "th", "tr"]),
    "th": frozenset(["td", "th", "tr"]),
    "option": frozenset(["option", "optgroup"]),
}
"""Elements whose end tag may be left out, and what then ends them."""

_TABLE = frozenset(["table", "thead", "tbody", "tfoot", "tr", "td", "th"])
_PREFIX = {f"h{level}": "#" * level + " " for level in range(1, 7)} | {"li": "- "}

_SHOWN = "shown"
"""Stands for the text of a drawing, inside what is not text of the page."""

_DECLARED_WITHIN = 4096
_XML_ENCODING = re.compile(rb"""\s*<\?xml[^>]*?\sencoding\s*=\s*["']([\w.:-]+)["']""")
_META_CHARSET = re.compile(rb"""<meta\b[^>]*?charset\s*=\s*["']?\s*([\w.:-]+)""", re.I)


def read(data: bytes, name: str, *, hidden: bool = False) -> Document:
    """Read an HTML page.

    Args:
        data: The file.
        name: For citations and messages.
        hidden: Whether elements that a browser does not show are read: those with `hidden`, or
            with `display: none` or `visibility: hidden` in their style or in the page's own rules.

    Raises:
        UnreadableError: If it is not text, or shows none.
    """
    source = read_text(data, name, declared_charset(data), encoded=True)
    builder = Builder(name)
    left_out = LeftOut()
    for number, block in enumerate(blocks(source.text, left_out, hidden=hidden)):
        builder.between(
            ("\n\n" if number and block.prefix.startswith("#") else "\n") * bool(number)
        )
        builder.between(block.prefix)
        builder.add(block.text, first_line=block.line)
    return builder.document([*source.warnings, *left_out.warnings()])


def declared_charset(data: bytes) -> str | None:
    """The charset that a page declares in its first bytes, or None."""
    head = data[:_DECLARED_WITHIN]
    found = _XML_ENCODING.match(head) or _META_CHARSET.search(head)
    return None if found is None else found[1].decode("ascii", "replace")


def blocks(text: str, left_out: LeftOut | None = None, *, hidden: bool = False) -> list[Block]:
    """The blocks that a page shows, in order, its title first.

    Args:
        text: The page.
        left_out: Is told of hidden text.
        hidden: Whether that is read too.
    """
    parser = _Parser(left_out or LeftOut(), hidden=hidden)
    parser.feed(text)
    parser.close()
    parser.end_block()
    parser.end_hidden()
    return parser.rows.finish()


class _Parser(HTMLParser):
    def __init__(self, left_out: LeftOut, *, hidden: bool) -> None:
        super().__init__(convert_charrefs=True)
        self.rows = TableRows()
        self._left_out = left_out
        self._read_hidden = hidden
        self._rules: frozenset[str] = frozenset()
        self._words: list[str] = []
        self._line = 0
        self._prefix = ""
        self._unseen: list[str] = []
        self._hidden: list[str] = []
        self._hidden_words: list[str] = []
        self._style = False
        self._title = False
        self._pre = 0
        self._raised = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in _UNSEEN:
            self._style = tag == "style"
            self._unseen.append(tag)
            return
        if self._hides(tag, given):
            return
        if tag == "title" and "svg" not in self._unseen:
            self._title = True
        elif tag in _TABLE:
            self.end_block()
            self._table(tag, given)
        elif tag == "sup":
            self._raised = True
        elif tag == "rt":
            self._words.append("(")
        elif tag == "img":
            self._take(given.get("alt") or "")
        elif tag == "input":
            self._take(_shown_value(given))
        elif tag == "svg":
            self._unseen.append(tag)
        elif tag in ("text", "foreignobject") and "svg" in self._unseen:
            self._unseen.append(_SHOWN)
            self.end_block()
        elif tag not in _INLINE:
            if not (tag == "p" and self._prefix and not self._words):
                self.end_block()
            self._prefix = _PREFIX.get(tag, self._prefix)
            self._pre += tag == "pre"

    def _table(self, tag: str, given: dict[str, str | None]) -> None:
        if tag in ("td", "th"):
            self.rows.begin_cell(given.get("colspan"), given.get("rowspan"))
        elif tag == "table":
            self.rows.begin_table()
        else:
            self.rows.end_row()

    def _hides(self, tag: str, given: dict[str, str | None]) -> bool:
        """Whether an element is hidden or inside a hidden one; opens or deepens that one."""
        if self._hidden and tag in _ENDED_BY.get(self._hidden[-1], ()):
            self.handle_endtag(self._hidden[-1])
        if self._hidden:
            if tag not in _VOID:
                self._hidden.append(tag)
            return True
        if self._read_hidden or not is_hidden(tag, given, self._rules):
            return False
        if tag not in _VOID:
            self._hidden.append(tag)
        return True

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if "svg" in self._unseen:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if self._hidden:
            if tag in self._hidden:
                while self._hidden.pop() != tag:
                    pass
            elif self._hidden[0] in _ENDED_BY and tag not in _INLINE:
                self._hidden.clear()  # the parent of the hidden paragraph ends
            if not self._hidden:
                self.end_hidden()
            return
        if tag == "title":
            self._title = False
            self.end_block()
        elif tag in ("text", "foreignobject") and _SHOWN in self._unseen:
            self.end_block()
            while self._unseen.pop() != _SHOWN:
                pass
        elif tag in _UNSEEN or tag == "svg":
            self._style = False
            if tag in self._unseen:
                while self._unseen.pop() != tag:
                    pass
        elif tag == "sup":
            self._raised = False
        elif tag == "rt":
            self._words.append(")")
        elif tag not in _INLINE and tag not in _VOID:
            self.end_block()
            if tag == "table":
                self.rows.end_table()
            elif tag in _TABLE and tag not in ("td", "th"):
                self.rows.end_row()
            self._pre -= tag == "pre" and self._pre > 0

    def handle_data(self, data: str) -> None:
        if self._hidden:
            self._hidden_words.append(data)
            return
        if self._style:
            self._rules |= hiding_rules(data)
            return
        if not self._seen():
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

    def _seen(self) -> bool:
        return self._title or not self._unseen or self._unseen[-1] == _SHOWN

    def _take(self, data: str) -> None:
        if not self._seen():
            return
        if not self._words:
            blank = len(data) - len(data.lstrip())
            if blank == len(data):
                return
            self._line = self.getpos()[0] + data[:blank].count("\n")
        if self._raised:
            data = mark_before(self._words[-1] if self._words else "", data) + data
            self._raised = False
        self._words.append(data)

    def end_block(self) -> None:
        """Keep the block that ended."""
        text = "".join(self._words)
        text = text.rstrip() if self._pre else " ".join(text.split())
        if text.strip():
            self.rows.add(Block(prefix=self._prefix, text=text, line=max(1, self._line)))
            self._prefix = ""
        self._words = []

    def end_hidden(self) -> None:
        """Note the hidden text that ended."""
        self._left_out.add(HIDDEN_TEXT, "".join(self._hidden_words))
        self._hidden_words = []


def _shown_value(given: dict[str, str | None]) -> str:
    """What an input shows: its value, or a mark for a box that is ticked or not."""
    kind = (given.get("type") or "text").lower()
    if kind in ("hidden", "password", "file", "color", "range", "image"):
        return ""
    if kind in ("checkbox", "radio"):
        return "☒ " if "checked" in given else "☐ "
    return f"{given.get('value') or given.get('placeholder') or ''} "
