"""Mails: the headers that people read, then the text."""

from __future__ import annotations

import email.policy
from email.message import EmailMessage
from email.parser import BytesParser

from nsa_cli.documents.build import Builder
from nsa_cli.documents.document import Document
from nsa_cli.documents.formats.archive import as_broken
from nsa_cli.documents.formats.web import blocks

_HEADERS = ("From", "To", "Cc", "Date", "Subject")


def read(data: bytes, name: str) -> Document:
    """Read an .eml; attachments are named, not opened.

    Raises:
        UnreadableError: If it is damaged or has no text.
    """
    with as_broken(name, "mail"):
        mail = BytesParser(EmailMessage, policy=email.policy.default).parsebytes(data)
        lines = [f"{header}: {mail[header]}" for header in _HEADERS if mail[header]]
        body = mail.get_body(preferencelist=("plain", "html"))
        if body is not None:
            text = body.get_content()
            if body.get_content_type() == "text/html":
                text = "\n".join(block.prefix + block.text for block in blocks(text))
            lines += ["", text]
        attached = [part.get_filename() for part in mail.iter_attachments()]
        lines += [f"Attachment: {filename}" for filename in attached if filename]
    builder = Builder(name)
    builder.add("\n".join(lines))
    return builder.document()
