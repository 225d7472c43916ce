"""Documents become text with the provenance of each character; no tensors here.

load    a path or standard input, whatever it holds
pdf     pages of a PDF, with `hyphens` (broken words) and `word_gaps` (missing spaces)
text    plain text in any encoding that can be told; `signatures` knows what is none
document    the text and its pieces; a range of characters to a page and lines
"""

from nsa_cli.documents.document import Document, Location, Piece
from nsa_cli.documents.load import load_document, parse_document, read_source

__all__ = ["Document", "Location", "Piece", "load_document", "parse_document", "read_source"]
