"""Uploaded files, kept until the server ends."""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from nsa_models.errors import NsaError

MOST_BYTES = 2_000_000_000
"""Total size of the uploads; the least recently used are evicted."""

_ID = re.compile(r"file-[0-9a-f]{24}")
_LONGEST_NAME = 120


class NoUploadError(NsaError):
    """An unknown upload id."""

    default_code = "document_not_found"


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """An uploaded file.

    Attributes:
        id: Derived from name and content, so that a repeated upload has the same id.
        filename: Name without folders.
        bytes: Size in bytes.
        created_at: Time in seconds since 1970.
        purpose: The client's `purpose` field.
    """

    id: str
    filename: str
    bytes: int
    created_at: int
    purpose: str


def is_upload(name: str) -> bool:
    """Whether a name has the form of an upload id."""
    return _ID.fullmatch(name) is not None


class Uploads:
    """Uploads in a temporary folder.

    Args:
        most_bytes: Limit of their total size.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="nsa-uploads-"))
        self._most_bytes = most_bytes
        self._uploads: OrderedDict[str, Upload] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, filename: str, data: bytes, purpose: str) -> Upload:
        """Store a file; evict others beyond the size limit."""
        name = plain_name(filename)
        digest = hashlib.sha256(name.encode("utf-8", "replace") + b"\0" + data).hexdigest()
        upload = Upload(
            id=f"file-{digest[:24]}",
            filename=name,
            bytes=len(data),
            created_at=int(time.time()),
            purpose=purpose,
        )
        with self._lock:
            if upload.id not in self._uploads:
                (self._folder / upload.id).write_bytes(data)
                self._uploads[upload.id] = upload
            self._uploads.move_to_end(upload.id)
            total = sum(each.bytes for each in self._uploads.values())
            while total > self._most_bytes and len(self._uploads) > 1:
                oldest, gone = next(iter(self._uploads.items()))
                self._drop(oldest)
                total -= gone.bytes
            return self._uploads[upload.id]

    def get(self, id_: str) -> Upload:
        """The upload of an id.

        Raises:
            NoUploadError: If the id is unknown.
        """
        with self._lock:
            found = self._uploads.get(id_)
            if found is None:
                raise NoUploadError(f"file {id_!r} not found", hint="upload it again")
            self._uploads.move_to_end(id_)
            return found

    def read(self, id_: str) -> bytes:
        """The content of an upload; raises like `get`."""
        self.get(id_)
        try:
            return (self._folder / id_).read_bytes()
        except FileNotFoundError as error:  # removed concurrently
            raise NoUploadError(f"file {id_!r} not found", hint="upload it again") from error

    def all(self) -> list[Upload]:
        """All uploads, the most recently used first."""
        with self._lock:
            return list(reversed(self._uploads.values()))

    def remove(self, id_: str) -> None:
        """Remove an upload; raises like `get`."""
        self.get(id_)
        with self._lock:
            self._drop(id_)

    def close(self) -> None:
        """Remove all uploads."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _drop(self, id_: str) -> None:
        self._uploads.pop(id_, None)
        (self._folder / id_).unlink(missing_ok=True)


def plain_name(filename: str) -> str:
    """A file name without folders and unprintable characters."""
    name = PurePosixPath(filename.replace("\\", "/")).name
    name = "".join(char for char in name if char.isprintable()).strip()
    if len(name) > _LONGEST_NAME:
        suffix = PurePosixPath(name).suffix[:16]
        name = name[: _LONGEST_NAME - len(suffix)] + suffix
    return name or "document"
