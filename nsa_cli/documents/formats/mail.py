"""Mails and mailboxes: the headers that people read, every part with text, and attachments."""

from __future__ import annotations

import email.policy
import re
from email.header import decode_header, make_header
from email.message import EmailMessage, Message
from email.parser import BytesParser

from nsa_cli.documents.build import Builder
from nsa_cli.documents.byte_forms import as_utf8
from nsa_cli.documents.decoding import decode_anyhow, known_charset
from nsa_cli.documents.document import Document
from nsa_cli.documents.formats.archive import as_broken
from nsa_cli.documents.formats.attachments import Attachments
from nsa_cli.documents.formats.left_out import LeftOut
from nsa_cli.documents.formats.mail_head import MAILBOX_LINE
from nsa_cli.documents.formats.web import blocks, declared_charset

HEADERS = ("From", "To", "Cc", "Bcc", "Date", "Subject")
_MOST_DEPTH = 20
_COVERED = 0.9
"""Share of the HTML alternative's words above which the plain text replaces it."""

_WORD = re.compile(r"\w+")
_MBOX_SPLIT = re.compile(rb"^(?=From [^\n]*\d{4}[^\n]*\r?\n[A-Za-z][A-Za-z0-9-]*:)", re.M)
_QUOTED_FROM = re.compile(rb"^>(>*From )", re.M)


def read(data: bytes, name: str, *, hidden: bool = False) -> Document:
    """Read an .eml, an .mht, a file of a Maildir, or an mbox, whose mails are numbered.

    Args:
        data: The file.
        name: For citations and messages.
        hidden: Whether hidden text of HTML parts is read.

    Raises:
        UnreadableError: If it is damaged or has no text.
    """
    data = as_utf8(data).lstrip(b"\r\n")
    with as_broken(name, "mail"):
        if MAILBOX_LINE.match(data):
            return _mailbox(data, name, hidden=hidden)
        reader = _Reader(name, hidden=hidden)
        builder = Builder(name)
        builder.add("\n".join(reader.lines(_parsed(data))))
        reader.attachments.add_to(builder)
    return builder.document(reader.warnings())


def _mailbox(data: bytes, name: str, *, hidden: bool) -> Document:
    builder = Builder(name, "mail")
    told: list[str] = []
    mails = [each for each in _MBOX_SPLIT.split(data) if each.strip()]
    for number, raw in enumerate(mails, start=1):
        content = _QUOTED_FROM.sub(rb"\1", raw.partition(b"\n")[2])
        reader = _Reader(name, hidden=hidden)
        mail = _parsed(content)
        subject = _header(mail, "Subject")
        builder.add("\n".join(reader.lines(mail)), page=number, label=subject[:60] or None)
        reader.attachments.add_to(builder)
        told += [f"mail {number}: {warning}" for warning in reader.warnings()]
    return builder.document(told)


def _parsed(data: bytes) -> EmailMessage:
    return BytesParser(EmailMessage, policy=email.policy.default).parsebytes(data)


def _header(mail: Message, name: str) -> str:
    """A header on one line; one that the policy cannot parse is decoded as it is."""
    try:
        value = mail[name]
        return " ".join(str(value).split()) if value is not None else ""
    except Exception:  # the parser of structured headers fails in many ways on damaged ones
        raw = next((value for key, value in mail.raw_items() if key.lower() == name.lower()), "")
        try:
            return " ".join(str(make_header(decode_header(raw))).split())
        except (LookupError, ValueError, UnicodeError):
            return " ".join(str(raw).split())


class _Reader:
    """The lines of a mail; its attachments are collected."""

    def __init__(self, name: str, *, hidden: bool) -> None:
        self.attachments = Attachments(name, hidden=hidden)
        self._hidden = hidden
        self._left_out = LeftOut()
        self._told: list[str] = []

    def lines(self, mail: Message, depth: int = 0) -> list[str]:
        """The headers and the text of a mail, those of mails inside it too."""
        lines = [
            f"{header}: {value}" for header in HEADERS if (value := _header(mail, header).strip())
        ]
        return [*lines, "", *self._part(mail, depth)]

    def warnings(self) -> list[str]:
        """What was guessed or left out."""
        return [
            *dict.fromkeys(self._told),
            *self._left_out.warnings(),
            *self.attachments.warnings,
        ]

    def _part(self, part: Message, depth: int) -> list[str]:
        if depth > _MOST_DEPTH:
            self._left_out.count("part nested too deep")
            return []
        kind = part.get_content_type()
        payload = part.get_payload()
        inner = None
        if isinstance(payload, list):
            inner = [each for each in payload if isinstance(each, Message)]
        if kind == "message/rfc822" and inner is not None:
            lines = [self.lines(each, depth + 1) for each in inner]
            return [line for each in lines for line in ["", "Forwarded mail:", *each]]
        if kind == "multipart/alternative" and inner is not None:
            return self._alternatives(inner, depth)
        if inner is not None:
            if kind == "message/delivery-status":
                return [line for each in inner for line in _status(each)]
            return [line for each in inner for line in ["", *self._part(each, depth + 1)]][1:]
        return self._leaf(part, kind)

    def _leaf(self, part: Message, kind: str) -> list[str]:
        filename = _filename(part)
        content = part.get_payload(decode=True)
        data = content if isinstance(content, bytes) else b""
        is_text = kind.startswith(("text/", "message/"))
        attached = part.get_content_disposition() == "attachment"
        if not is_text or attached or (filename and kind != "text/html"):
            return self.attachments.take(filename, kind, data)
        return self._text(part, kind, data)

    def _text(self, part: Message, kind: str, data: bytes) -> list[str]:
        label = part.get_content_charset()
        if label is not None and known_charset(label) is None:
            self._told.append(f"the charset {label!r} of a part is not known; its text was guessed")
            label = None
        if kind == "text/html":
            text, told = decode_anyhow(data, label or declared_charset(data))
            found = blocks(text, self._left_out, hidden=self._hidden)
            text = "\n".join(block.prefix + block.text for block in found)
        else:
            text, told = decode_anyhow(data, label)
        self._told += told
        return text.replace("\r\n", "\n").strip("\n").split("\n")

    def _alternatives(self, parts: list[Message], depth: int) -> list[str]:
        """The plain text, or the HTML where that says more; parts of other kinds are named."""
        found: dict[str, list[str]] = {}
        for each in parts:
            kind = each.get_content_type()
            shown = "plain" if kind == "text/plain" else "rich"
            if kind in ("text/plain", "text/html") or each.is_multipart():
                found.setdefault(shown, []).extend(self._part(each, depth + 1))
            elif kind == "text/calendar":
                found.setdefault("calendar", ["", "Calendar entry:"]).extend(
                    self._part(each, depth + 1)
                )
        plain, rich = found.get("plain", []), found.get("rich", [])
        calendar = found.get("calendar", [])
        own, other = set(_WORD.findall(" ".join(plain))), set(_WORD.findall(" ".join(rich)))
        if len(own & other) >= _COVERED * len(other):
            return plain + calendar
        return (rich if len(own & other) >= _COVERED * len(own) else [*plain, "", *rich]) + calendar


def _status(part: Message) -> list[str]:
    return [f"{key}: {' '.join(str(value).split())}" for key, value in part.raw_items()]


def _filename(part: Message) -> str | None:
    try:
        return part.get_filename()
    except (LookupError, ValueError, UnicodeError, AttributeError, IndexError):
        return None
