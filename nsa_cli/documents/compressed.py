"""Decompression of gzip, bzip2, xz and Zstandard files, with a limit on the size."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable
from pathlib import PurePath
from typing import IO

from nsa_cli.documents.errors import UnreadableError
from nsa_cli.documents.missing import need
from nsa_models.errors import DoesNotFitError

MOST_BYTES = 512 * 1024 * 1024
"""Bytes of text that are taken in at most: a log of some million lines."""

MOST_FORMAT_BYTES = 64 * 1024 * 1024
"""Of text in a format that takes many times its size to read: a sheet, a web page, a mail."""

_CHUNK = 1024 * 1024
_ZSTD = b"\x28\xb5\x2f\xfd"


def _zstd(file: IO[bytes]) -> IO[bytes]:
    zstandard = need("zstandard", "zstandard", "Zstandard files")
    opened: IO[bytes] = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
    return opened


def _gzip(file: IO[bytes]) -> IO[bytes]:
    return gzip.GzipFile(fileobj=file)  # type: ignore[return-value]


def _bz2(file: IO[bytes]) -> IO[bytes]:
    return bz2.BZ2File(file)


def _xz(file: IO[bytes]) -> IO[bytes]:
    return lzma.LZMAFile(file)


_KINDS: tuple[tuple[bytes, tuple[str, ...], Callable[[IO[bytes]], IO[bytes]]], ...] = (
    (b"\x1f\x8b", (".gz", ".tgz"), _gzip),
    (b"BZh", (".bz2",), _bz2),
    (b"\xfd7zXZ\x00", (".xz",), _xz),
    (_ZSTD, (".zst", ".zstd"), _zstd),
)
SUFFIXES = frozenset(suffix for _, suffixes, _ in _KINDS for suffix in suffixes)


def is_compressed(data: bytes) -> bool:
    """Whether some bytes begin like a compressed file."""
    return any(data.startswith(magic) for magic, _, _ in _KINDS)


def decompress(data: bytes, name: str) -> tuple[bytes, str]:
    """What a compressed file holds, and its name without the suffix.

    Args:
        data: Anything; what is not compressed is returned as it is.
        name: For messages.

    Raises:
        UnreadableError: If the file is damaged (`broken`), or a library is missing.
        DoesNotFitError: If it holds more than `MOST_BYTES`.
    """
    for magic, suffixes, opened in _KINDS:
        if not data.startswith(magic):
            continue
        found = bytearray()
        errors = _errors(magic)
        stream = opened(io.BytesIO(data))
        try:
            while chunk := stream.read(_CHUNK):
                found += chunk
                if len(found) > MOST_BYTES:
                    raise too_large(name, "unpacks to more than 512 MB")
        except errors as error:
            raise UnreadableError(
                f"{name} is a damaged compressed file ({str(error) or type(error).__name__})",
                hint="get it again",
                code="broken",
            ) from error
        suffix = PurePath(name).suffix.lower()
        return bytes(found), name[: -len(suffix)] if suffix in suffixes else name
    return data, name


def _errors(magic: bytes) -> tuple[type[Exception], ...]:
    """Exceptions that a damaged file with these first bytes raises."""
    kinds = (OSError, EOFError, zlib.error, lzma.LZMAError, ValueError)
    if magic != _ZSTD:
        return kinds
    damaged: type[Exception] = need("zstandard", "zstandard", "Zstandard files").ZstdError
    return (*kinds, damaged)


def too_large(name: str, what: str) -> DoesNotFitError:
    """The error for a text that no model can hold."""
    return DoesNotFitError(
        f"{name} {what}, which is more than can be read",
        hint=f"ask about a part of it, e.g. `tail -n 2000 {name} | nsa ask - ...`",
        code="too_large",
    )
