"""Formats beyond PDF and plain text, one file each; which one a file has is told by `read_format`.

archive     zip containers, checked before they are opened
word        .docx      slides      .pptx      sheets      .xlsx      book        .epub
web         HTML       notebook    .ipynb     mail        .eml
"""

from nsa_cli.documents.formats.choose import read_format

__all__ = ["read_format"]
