"""How mails and mailboxes begin."""

from __future__ import annotations

import re

from nsa_cli.documents.byte_forms import as_utf8

MAILBOX_LINE = re.compile(rb"From [^\n]*\d{4}[^\n]*\r?\n(?=[A-Za-z][A-Za-z0-9-]*:)")
_HEADER = re.compile(rb"([A-Za-z][A-Za-z0-9-]*):[^\n]*\n(?:[ \t][^\n]*\n)*")
_STRONG = frozenset([b"mime-version", b"message-id", b"received", b"return-path", b"delivered-to"])
_LOOKED_AT = 16_384


def looks_like_mail(data: bytes) -> bool:
    """Whether some bytes begin with the headers of a mail, or with those of a mailbox."""
    head = as_utf8(data[:_LOOKED_AT]).lstrip(b"\r\n").replace(b"\r\n", b"\n")
    if MAILBOX_LINE.match(head):
        return True
    names = set()
    position = 0
    while found := _HEADER.match(head, position):
        names.add(found[1].lower())
        position = found.end()
    return len(names) >= 3 and b"from" in names and bool(names & _STRONG)
