"""Sources become text, with the page and the lines of each character. No tensors here.

sources     files, folders, globs, URLs, standard input; `walk` lists folders, `rotation` orders
            logs
names       Unicode forms of file names; `standard_input` tells whether something is piped in
urls        documents behind http and https URLs
load        one path or standard input; `compressed` files are decompressed
pdf         pages of a PDF; `ocr` reads scanned pages
formats     office files, books, web pages, notebooks, mails, tables, records, transcripts
text        plain text; `decoding` finds its encoding, `signatures` recognizes binary files;
            `encoded` and `invisible` take out what says nothing to a reader
document    the text, its pieces, and the location of a range; `build` joins documents
pages       ranges of pages
folding     samples the lines of a long log
outline     sections of a document
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nsa_cli.documents.document import Document, Piece
    from nsa_cli.documents.load import parse_document, read_source
    from nsa_cli.documents.location import Location
    from nsa_cli.documents.pages import PageRanges
    from nsa_cli.documents.sources import digest, find_sources, parse_sources, read_sources, title

_HOMES = {
    "Document": "document",
    "Location": "location",
    "PageRanges": "pages",
    "Piece": "document",
    "digest": "sources",
    "find_sources": "sources",
    "parse_document": "load",
    "parse_sources": "sources",
    "read_source": "load",
    "read_sources": "sources",
    "title": "sources",
}
"""Module of each name, imported at first use: what shows a location need not open documents."""

__all__ = [
    "Document",
    "Location",
    "PageRanges",
    "Piece",
    "digest",
    "find_sources",
    "parse_document",
    "parse_sources",
    "read_source",
    "read_sources",
    "title",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
