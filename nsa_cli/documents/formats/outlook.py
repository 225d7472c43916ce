"""Outlook messages."""

from __future__ import annotations

import io
import re
from dataclasses import replace
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
_MESSAGE_CHARSET = 0x3FFD
_UNICODE_STRING = "001F"
_ENCRYPTED = "IPM.Note.SMIME"
_DIRECTORY_NAME = re.compile(r"\s*</o=[^<>]*>", re.I)
"""An address inside an organization, which no reader sees."""

_PROPERTIES = "__properties_version1.0"
_FORWARDED = "__substg1.0_3701000D"
"""Where an attachment that is a message has it."""

_INNER_HEAD = 24
_HEAD_REST = b"\0" * 8
_MOST_DEPTH = 5


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
    olefile = need("olefile", "olefile", "Outlook messages")
    storages = need("oxmsg.storage", "python-oxmsg", "Outlook messages")
    attachments = Attachments(name, hidden=hidden)
    left_out = LeftOut()
    with as_broken(name, "Outlook message"), olefile.OleFileIO(io.BytesIO(data)) as container:
        root = storages.Storage.from_ole(container)
        lines = _lines(oxmsg, root, attachments, left_out, hidden=hidden)
    builder = Builder(name)
    builder.add("\n".join(lines))
    attachments.add_to(builder)
    return builder.document([*left_out.warnings(), *attachments.warnings])


def _lines(
    oxmsg: Any,
    storage: Any,
    attachments: Attachments,
    left_out: LeftOut,
    *,
    hidden: bool,
    depth: int = 0,
) -> list[str]:
    """The headers and the text of a message, and the messages that it forwards."""
    message = oxmsg.Message(storage)
    headers = _headers(message)
    if _in_body_charset(message, storage):
        headers = [_in_charset(line, message.properties.body_encoding) for line in headers]
    lines = [*headers, "", *_body(message, left_out, hidden=hidden)]
    for place in storage.iter_attachment_storages():
        each = oxmsg.attachment.Attachment(place)
        filename, content = _ended(each.file_name or ""), each.file_bytes
        inside = next((sub for sub in place.storages if sub.name == _FORWARDED), None)
        if content is not None:
            kind = each.mime_type or "application/octet-stream"
            lines += attachments.take(filename or None, kind, content)
        elif inside is not None and depth < _MOST_DEPTH:
            forwarded = _as_message(inside)
            shared: Any = {"hidden": hidden, "depth": depth + 1}
            lines += ["", "Forwarded mail:"]
            lines += _lines(oxmsg, forwarded, attachments, left_out, **shared)
        else:
            lines.append(f"Attachment: {filename or 'a message'}")
            attachments.warnings.append(f"attachment {filename or 'a message'} is not read")
    return lines


def _as_message(inside: Any) -> Any:
    """A message inside another one, whose properties have a shorter head than those of a file."""
    streams = tuple(
        replace(each, bytes_=each.bytes_[:_INNER_HEAD] + _HEAD_REST + each.bytes_[_INNER_HEAD:])
        if each.name == _PROPERTIES
        else each
        for each in inside.streams
    )
    return replace(inside, streams=streams)


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
        value = _DIRECTORY_NAME.sub("", str(value or found.get(header) or ""))
        if value:
            lines.append(f"{header}: {' '.join(_ended(value).split())}")
    return lines


def _in_body_charset(message: Any, storage: Any) -> bool:
    """Whether the strings of a message are in the charset of its body, as no other one is named."""
    if message.properties.int_prop_value(_MESSAGE_CHARSET) is not None:
        return False
    return not any(each.name.endswith(_UNICODE_STRING) for each in storage.streams)


def _in_charset(text: str, charset: str) -> str:
    """A text in a charset that was decoded as Latin-9; as it is where it is in another one."""
    try:
        return text.encode("iso-8859-15").decode(charset)
    except (LookupError, UnicodeError):
        return text


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
