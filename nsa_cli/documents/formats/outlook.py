"""Outlook messages."""

from __future__ import annotations

from typing import Any

from nsa_cli.documents.build import Builder
from nsa_cli.documents.document import Document
from nsa_cli.documents.formats.archive import as_broken
from nsa_cli.documents.formats.attachments import Attachments
from nsa_cli.documents.formats.left_out import LeftOut
from nsa_cli.documents.formats.mail import HEADERS
from nsa_cli.documents.formats.web import blocks
from nsa_cli.documents.missing import need

_COMPRESSED_RTF = 0x1009
_SENDER_NAME = 0x0C1A
_ENCRYPTED = "IPM.Note.SMIME"


def read_message(data: bytes, name: str, *, hidden: bool) -> Document:
    """Read an Outlook .msg: its headers, its text, and its attachments.

    Args:
        data: The file.
        name: For citations and messages.
        hidden: Whether hidden text of an HTML body is read.

    Raises:
        UnreadableError: If it is damaged or empty, or python-oxmsg is missing.
    """
    oxmsg = need("oxmsg", "python-oxmsg", "Outlook messages")
    attachments = Attachments(name, hidden=hidden)
    left_out = LeftOut()
    with as_broken(name, "Outlook message"):
        message = oxmsg.Message.load(data)
        lines = [*_headers(message), "", *_body(message, left_out, hidden=hidden)]
        for each in message.attachments:
            filename, content = _ended(each.file_name or ""), each.file_bytes
            if content is None:
                lines.append(f"Attachment: {filename or 'a message'}")
                attachments.warnings.append(f"attachment {filename or 'a message'} is not read")
            else:
                kind = each.mime_type or "application/octet-stream"
                lines += attachments.take(filename or None, kind, content)
    builder = Builder(name)
    builder.add("\n".join(lines))
    attachments.add_to(builder)
    return builder.document([*left_out.warnings(), *attachments.warnings])


def _headers(message: Any) -> list[str]:
    """The headers that people read: as they were sent, or put together from properties."""
    sent = {key.lower(): value for key, value in message.message_headers.items()}
    recipients = ", ".join(
        f"{each.name} <{each.email_address}>" if each.name != each.email_address else each.name
        for each in message.recipients
        if each.name or each.email_address
    )
    found = {
        "From": message.sender or message.properties.str_prop_value(_SENDER_NAME),
        "To": recipients,
        "Date": message.sent_date,
        "Subject": message.subject,
    }
    lines = []
    for header in HEADERS:
        value = found.get(header) if header == "Subject" else sent.get(header.lower())
        value = value or found.get(header)
        if value:
            lines.append(f"{header}: {' '.join(_ended(str(value)).split())}")
    return lines


def _body(message: Any, left_out: LeftOut, *, hidden: bool) -> list[str]:
    plain = message.body
    if plain and plain.strip():
        return _ended(str(plain)).replace("\r\n", "\n").strip("\n").split("\n")
    try:
        rich = message.html_body
    except (LookupError, UnicodeError):
        rich = None
    if rich:
        found = blocks(rich, left_out, hidden=hidden)
        return [block.prefix + block.text for block in found]
    if message.properties.binary_prop_value(_COMPRESSED_RTF):
        left_out.count("body in rich text alone")
    if message.message_class.startswith(_ENCRYPTED):
        left_out.count("encrypted body")
    return []


def _ended(text: str) -> str:
    """A text up to the NUL character that may end it."""
    return text.partition("\0")[0]
