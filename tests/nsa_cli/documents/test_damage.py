"""Files that are cut off or changed: read, or refused with a hint; never a traceback."""

from __future__ import annotations

import io
import zipfile
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nsa_cli.documents import parse_document
from nsa_models.errors import NsaError

CASES = Path(__file__).parents[2] / "fixtures" / "documents"
NAMES = sorted(
    path.name for path in CASES.iterdir() if path.is_file() and path.suffix not in (".pdf", ".txt")
)


@cache
def whole(name: str) -> bytes:
    return (CASES / name).read_bytes()


def read_or_refuse(name: str, data: bytes) -> None:
    refused: NsaError | None = None
    text = ""
    try:
        text = parse_document(name, data).text
    except NsaError as error:
        refused = error
    if refused is None:
        assert text.strip()
    else:
        assert refused.exit_code in (3, 4)
        assert refused.hint


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=20)
@given(data=st.data())
def test_changed_bytes(name: str, data: st.DataObject) -> None:
    damaged = bytearray(whole(name))
    for _ in range(data.draw(st.integers(1, 8))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(1, len(damaged)))
    read_or_refuse(name, bytes(damaged[:cut]))


VALUES = [b"", b"-1", b"0", b"99999999999", b"abc", b"\xc3\xa9"]


@pytest.mark.parametrize("name", [name for name in NAMES if whole(name).startswith(b"PK\x03\x04")])
@settings(max_examples=20)
@given(data=st.data())
def test_changed_values_inside_a_package(name: str, data: st.DataObject) -> None:
    """Attributes of a part change while its XML stays well formed, or a part is gone."""
    with zipfile.ZipFile(io.BytesIO(whole(name))) as package:
        parts = {part: package.read(part) for part in package.namelist()}
    part = data.draw(st.sampled_from(sorted(parts)))
    if data.draw(st.booleans()):
        pieces = parts[part].split(b'="')
        for _ in range(data.draw(st.integers(1, 4))):
            at = data.draw(st.integers(0, len(pieces) - 1))
            _, quote, rest = pieces[at].partition(b'"')
            if at and quote:
                pieces[at] = data.draw(st.sampled_from(VALUES)) + quote + rest
        parts[part] = b'="'.join(pieces)
    else:
        del parts[part]
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as package:
        for each, content in parts.items():
            package.writestr(each, content)
    read_or_refuse(name, file.getvalue())
