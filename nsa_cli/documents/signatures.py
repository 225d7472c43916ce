"""Known binary formats by their first bytes, and what a user can do about each."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from nsa_cli.documents.names import is_url

COMPOUND = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
"""First bytes of the container of legacy Office files."""

OLDEST_SHEETS = (b"\x09\x00\x04\x00", b"\x09\x02\x06\x00", b"\x09\x04\x06\x00")
"""First bytes of a worksheet of Excel 2 to 4, which has no container."""

_OCR_HINT = "make a PDF with a text layer of it, e.g. `ocrmypdf --image-dpi 300 {path} out.pdf`"
_OFFICE_HINT = "convert it first, e.g. `libreoffice --convert-to pdf {path}`"
_ZIP_HINT = "unpack it and name a file inside, e.g. `unzip {path}`"

_LOOK_INSIDE = 64 * 1024
"""How many bytes of a ZIP archive are searched for the names of its first members."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """A binary format and what to do with a file of it.

    Attributes:
        looks_like: The format with its article, such as `a PNG image`.
        hint: The next step, with `{path}` where a shell-quoted path belongs.
        is_document: Whether it is a ZIP archive of the parts of one document.
    """

    looks_like: str
    hint: str
    is_document: bool = False

    def hint_for(self, path: str) -> str:
        """The next step for one file, its path quoted for a shell, or for a URL."""
        if is_url(path):
            step, example, _ = self.hint.partition(", e.g. ")
            return f"save it, then {step.removesuffix(' first')}" if example else step
        return self.hint.format(path=shlex.quote(path))


def _unpack(command: str) -> str:
    return f"unpack it first, e.g. `{command}`"


_NO_TEXT = "name a PDF or a text file"

_MAGIC: tuple[tuple[int, bytes, Signature], ...] = tuple(
    (offset, magic, Signature(looks_like=looks_like, hint=hint))
    for offset, magic, looks_like, hint in (
        (0, b"\x1f\x8b", "gzip-compressed data", _unpack("gunzip -k {path}")),
        (0, b"BZh", "bzip2-compressed data", _unpack("bunzip2 -k {path}")),
        (0, b"\xfd7zXZ\x00", "xz-compressed data", _unpack("unxz -k {path}")),
        (0, b"\x28\xb5\x2f\xfd", "zstd-compressed data", _unpack("unzstd {path}")),
        (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", _unpack("7z x {path}")),
        (0, b"Rar!\x1a\x07", "a RAR archive", _unpack("unrar x {path}")),
        (257, b"ustar", "a tar archive", _unpack("tar xf {path}")),
        (0, b"\x89PNG\r\n\x1a\n", "a PNG image", _OCR_HINT),
        (0, b"\xff\xd8\xff", "a JPEG image", _OCR_HINT),
        (0, b"GIF8", "a GIF image", _OCR_HINT),
        (0, b"II*\x00", "a TIFF image", _OCR_HINT),
        (0, b"MM\x00*", "a TIFF image", _OCR_HINT),
        (8, b"WEBPVP8", "a WebP image", _OCR_HINT),
        (0, b"AT&TFORM", "a DjVu document", "convert it first, e.g. `ddjvu -format=pdf {path}`"),
        (0, COMPOUND, "an old Microsoft Office file", _OFFICE_HINT),
        (0, b"SQLite format 3\x00", "an SQLite database", "export it, e.g. `sqlite3 {path} .dump`"),
        (0, b"\x7fELF", "a Linux program or library", _NO_TEXT),
        (0, b"MZ\x90\x00", "a Windows program or library", _NO_TEXT),
        (0, b"\xcf\xfa\xed\xfe", "a macOS program or library", _NO_TEXT),
        (0, b"\xca\xfe\xba\xbe", "a Java class or a macOS program", _NO_TEXT),
        (0, b"\x00asm", "a WebAssembly module", _NO_TEXT),
        (0, b"GGUF", "a GGUF model", _NO_TEXT),
        (0, b"PAR1", "a Parquet table", _NO_TEXT),
        (4, b"ftyp", "a video or sound file", _NO_TEXT),
        (0, b"OggS", "a sound or video file", _NO_TEXT),
        (0, b"fLaC", "a sound file", _NO_TEXT),
        (0, b"ID3", "a sound file", _NO_TEXT),
    )
)

_ZIP_MEMBERS: tuple[tuple[bytes, Signature], ...] = tuple(
    (member, Signature(looks_like=looks_like, hint=hint, is_document=True))
    for member, looks_like, hint in (
        (b"mimetypeapplication/epub+zip", "an EPUB book", "convert it first, e.g. `pandoc {path}`"),
        (b"mimetypeapplication/vnd.oasis", "an OpenDocument file", _OFFICE_HINT),
        (b"word/", "a Word document (.docx)", _OFFICE_HINT),
        (
            b"xl/workbook.bin",
            "a binary Excel workbook (.xlsb)",
            "save it as .xlsx, e.g. `libreoffice --convert-to xlsx {path}`",
        ),
        (b"xl/", "an Excel workbook (.xlsx)", _OFFICE_HINT),
        (b"ppt/", "a PowerPoint presentation (.pptx)", _OFFICE_HINT),
    )
)

_ZIP = Signature(looks_like="a ZIP archive", hint=_ZIP_HINT)


def identify(data: bytes) -> Signature | None:
    """The binary format that some bytes begin like, or None when none is known."""
    if data.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        head = data[:_LOOK_INSIDE]
        return next((found for member, found in _ZIP_MEMBERS if member in head), _ZIP)
    return next(
        (found for offset, magic, found in _MAGIC if data.startswith(magic, offset)),
        None,
    )
