"""PDF files.

read         pages become a document, with warnings (`messages`) and attached files
             (`attachments`)
structure    encryption, pages and labels, by pypdf
page         the text of one page: `glyphs` (PDFium) put in order by `layout`, without `hidden`
             text, with what `annotations` say; `language` tells text from glyph numbers
clean        removes what cannot be shown
"""

from nsa_cli.documents.pdf.read import PAGE_BREAK, read_pdf

__all__ = ["PAGE_BREAK", "read_pdf"]
