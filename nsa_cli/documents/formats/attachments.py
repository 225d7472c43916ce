"""Files inside mails and documents: each is read by its own format, or named."""

from __future__ import annotations

import mimetypes
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from nsa_cli.documents.build import Builder
from nsa_cli.documents.document import Document
from nsa_models.errors import NsaError

_MOST_NESTED = 5
_SEEN = ("image/", "audio/", "video/", "font/")
"""Kinds without text; the mail gives their names."""

_SIGNATURES = frozenset(
    [
        "application/pgp-signature",
        "application/pkcs7-signature",
        "application/x-pkcs7-signature",
    ]
)

_SEALED = frozenset(["application/pkcs7-mime", "application/x-pkcs7-mime"])
_PGP_MESSAGE = b"-----BEGIN PGP MESSAGE-----"

_DEPTH: ContextVar[int] = ContextVar("depth", default=0)
"""How many files the file that is being read is inside of."""


@contextmanager
def _deeper() -> Iterator[None]:
    token = _DEPTH.set(_DEPTH.get() + 1)
    try:
        yield
    finally:
        _DEPTH.reset(token)


class Attachments:
    """The attachments of one mail, or the embedded files of a document.

    Args:
        name: Of the mail; an attachment is cited as `mail.eml/fees.pdf`.
        hidden: Whether hidden text is read.

    Attributes:
        warnings: About attachments that cannot be read.
    """

    def __init__(self, name: str, *, hidden: bool) -> None:
        self.warnings: list[str] = []
        self._name = name
        self._hidden = hidden
        self._documents: list[Document] = []
        self._count = 0

    def take(self, filename: str | None, kind: str, data: bytes) -> list[str]:
        """Read an attachment.

        Args:
            filename: As the mail names it, or None.
            kind: Its media type.
            data: Its content.

        Returns:
            The line that names it in the mail.
        """
        from nsa_cli.documents.load import parse_document  # which reads mails too

        self._count += 1
        if filename is None:
            filename = f"part {self._count}{mimetypes.guess_extension(kind) or ''}"
        filename = filename.rpartition("/")[2] or filename
        filename = " ".join("".join(c if c.isprintable() else " " for c in filename).split())
        line = f"Attachment: {filename}"
        if kind.startswith(_SEEN) or kind in _SIGNATURES:
            return [line]
        if kind in _SEALED or data.lstrip().startswith(_PGP_MESSAGE):
            self.warnings.append(
                f"attachment {filename} is not read: it is encrypted, or signed as a whole; open "
                "the mail in a mail program and save its text"
            )
            return [line]
        name = f"{self._name}/{filename}"
        if _DEPTH.get() >= _MOST_NESTED:
            self.warnings.append(f"attachment {filename} is nested too deep and is not read")
            return [line]
        try:
            with _deeper():
                document = parse_document(name, data, hidden=self._hidden)
        except NsaError as error:
            reason = error.message.replace(f"{name} ", "it ", 1).replace(f"{self._name}/", "")
            self.warnings.append(f"attachment {filename} is not read: {reason}")
            return [line]
        self.warnings += [f"attachment {filename}: {each}" for each in document.warnings]
        self._documents.append(document)
        return [line]

    def read_here(self, part: Any) -> Document | None:
        """Read a part of a package for its place in the text; None if that fails.

        Args:
            part: With `partname` and `blob`.
        """
        from nsa_cli.documents.load import parse_document

        if _DEPTH.get() >= _MOST_NESTED:
            return None
        filename = str(part.partname).rpartition("/")[2]
        try:
            with _deeper():
                document = parse_document(
                    f"{self._name}/{filename}", part.blob, hidden=self._hidden
                )
        except NsaError:
            return None
        self.warnings += [f"{filename}: {each}" for each in document.warnings]
        return document

    def add_to(self, builder: Builder) -> None:
        """Add the documents that were read, each under a line with its name."""
        for document in self._documents:
            builder.graft(document)
