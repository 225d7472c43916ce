"""Documents become text with the provenance of each character; no tensors here.

sources     files, folders, globs and standard input, as the user names them; with `walk` (what
            git ignores) and `rotation` (logs in order)
load        one path or standard input, whatever it holds; `compressed` is read through
pdf         pages of a PDF, with `hyphens` (broken words) and `word_gaps` (missing spaces); `ocr`
            for pages that are pictures
formats     office files, books, web pages, notebooks, mails
text        plain text in any encoding that can be told; `signatures` knows what is none
document    the text and its pieces; a range of characters to a page and lines; put together by
            `build`; `pages` are ranges of them; `folding` takes lines out of a log that is too long
"""

from nsa_cli.documents.document import Document, Piece
from nsa_cli.documents.load import load_document, parse_document, read_source
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
    "load_document",
    "parse_document",
    "parse_sources",
    "read_source",
    "read_sources",
    "title",
]
