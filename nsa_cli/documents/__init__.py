"""Sources become text, with the page and the lines of each character. No tensors here.

sources     files, folders, globs, URLs, standard input; `walk` lists folders, `rotation` orders
            logs
names       Unicode forms of file names; `standard_input` tells whether something is piped in
urls        documents behind http and https URLs
load        one path or standard input; `compressed` files are decompressed
pdf         pages of a PDF; `ocr` reads scanned pages
formats     office files, books, web pages, notebooks, mails, tables, records, transcripts
text        plain text; `decoding` finds its encoding, `signatures` recognizes binary files
document    the text, its pieces, and the location of a range; `build` joins documents
pages       ranges of pages
folding     samples the lines of a long log
outline     sections of a document
"""

from nsa_cli.documents.document import Document, Piece
from nsa_cli.documents.load import parse_document, read_source
from nsa_cli.documents.location import Location
from nsa_cli.documents.pages import PageRanges
from nsa_cli.documents.sources import digest, find_sources, parse_sources, read_sources, title

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
