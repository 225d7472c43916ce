"""Formats beyond PDF and plain text; `read_format` tells which one a file has.

choose          the format of some bytes
archive         zip containers, checked before they are opened
ooxml           parts of Office Open XML packages; `drawings`, `equations` and `numerals` in them
word            .docx, with `word_walk` (blocks), `word_inline` (runs), `word_parts`, `word_styles`
                and `word_numbers` (automatic numbers)
slides          .pptx
sheets          .xlsx, with `sheet_parts` (formulas, comments, text boxes); `tables` names columns
delimited       .csv, .tsv
open_document   .odt, .ods, .odp, with `open_text` and `open_lists`
compound        .doc, .ppt by LibreOffice; `old_sheets` reads .xls, `outlook` .msg
mail            .eml, .mbox, Maildir, told by `mail_head`, with `attachments`
web             HTML, with `web_hidden`; `book` is EPUB
rich_text       RTF
notebook        .ipynb
records         JSON and JSON Lines; `markup` is XML
subtitles       .srt, .vtt
left_out        what a reader leaves out, to be told
"""

from nsa_cli.documents.formats.choose import read_format

__all__ = ["read_format"]
