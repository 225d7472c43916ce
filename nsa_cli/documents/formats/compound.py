"""Legacy Office files and Outlook messages, which share one container."""

from __future__ import annotations

import io
import shutil
import subprocess
import tempfile
from pathlib import Path

from nsa_cli.documents.document import Document
from nsa_cli.documents.errors import UnreadableError
from nsa_cli.documents.formats.archive import as_broken, protected
from nsa_cli.documents.formats.old_sheets import read_workbook
from nsa_cli.documents.missing import need
from nsa_cli.documents.signatures import COMPOUND

_WORKBOOKS = frozenset(["workbook", "book"])
_CONVERSION_SECONDS = 180
_PROGRAMS = ("soffice", "libreoffice")


def read(data: bytes, name: str, *, hidden: bool = False) -> Document:
    """Read a .doc, .xls, .ppt or .msg, told by the streams in it.

    xlrd reads workbooks and python-oxmsg messages. Documents and presentations are converted by
    LibreOffice where it is installed.

    Args:
        data: The file.
        name: For citations and messages.
        hidden: Whether hidden sheets, slides and text are read.

    Raises:
        UnreadableError: If it is damaged or empty, is protected by a password, or what reads it is
            not installed.
    """
    if not data.startswith(COMPOUND):
        return read_workbook(data, name, hidden=hidden)
    olefile = need("olefile", "olefile", "Legacy Office files")
    with as_broken(name, "Office file"), olefile.OleFileIO(io.BytesIO(data)) as container:
        streams = {"/".join(path) for path in container.listdir(streams=True)}
        book = next((each for each in streams if each.lower() in _WORKBOOKS), None)
        records = b"" if book is None else container.openstream(book).read()
    if "EncryptedPackage" in streams:
        raise protected(name)
    if "__properties_version1.0" in streams:
        from nsa_cli.documents.formats.outlook import read_message

        return read_message(data, name, hidden=hidden)
    if book is not None:
        return read_workbook(records, name, hidden=hidden)
    if "WordDocument" in streams:
        from nsa_cli.documents.formats import word

        return word.read(_converted(data, name, "doc"), name, hidden=hidden)
    if "PowerPoint Document" in streams:
        from nsa_cli.documents.formats import slides

        return slides.read(_converted(data, name, "ppt"), name, hidden=hidden)
    raise UnreadableError(
        f"{name} looks like an old Microsoft Office file of an unknown kind",
        hint="save it as .docx, .xlsx or .pdf",
        code="binary",
    )


def _converted(data: bytes, name: str, suffix: str) -> bytes:
    """A legacy file in its present format, converted by LibreOffice.

    Raises:
        UnreadableError: If LibreOffice is not installed, or cannot convert it.
    """
    what = {"doc": "Word document", "ppt": "PowerPoint presentation"}[suffix]
    program = next((found for each in _PROGRAMS if (found := shutil.which(each))), None)
    if program is None:
        raise UnreadableError(
            f"{name} is an old {what} (.{suffix}), which needs LibreOffice to be read",
            hint=f"install LibreOffice (`soffice` must be on the PATH), or save it as .{suffix}x",
            code="missing_library",
        )
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, f"document.{suffix}")
        source.write_bytes(data)
        command = [
            *(
                program,
                "--headless",
                "--norestore",
                f"-env:UserInstallation=file://{folder}/profile",
            ),
            *("--convert-to", f"{suffix}x", "--outdir", folder, str(source)),
        ]
        try:
            subprocess.run(
                command, capture_output=True, timeout=_CONVERSION_SECONDS, check=True, cwd=folder
            )
            return source.with_suffix(f".{suffix}x").read_bytes()
        except (OSError, subprocess.SubprocessError) as error:
            raise UnreadableError(
                f"{name} is an old {what} (.{suffix}) that LibreOffice cannot convert",
                hint=f"open it in its program and save it as .{suffix}x",
                code="broken",
            ) from error
