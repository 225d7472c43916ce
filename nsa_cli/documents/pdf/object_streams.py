"""Long object streams, of which pypdf parses all objects for the sake of one."""

from __future__ import annotations

from io import BytesIO
from itertools import pairwise

from pypdf import PdfReader
from pypdf._utils import read_non_whitespace
from pypdf.errors import PyPdfError
from pypdf.generic import IndirectObject, PdfObject, StreamObject, read_object

_MANY = 2000
"""Objects in a stream from which they are parsed one by one.

The structure tree of a tagged PDF may have a hundred thousand; the text needs none of them.
"""


class LazyReader(PdfReader):
    """A reader that parses only those objects of a long object stream that are needed."""

    def __init__(self, stream: BytesIO) -> None:
        self._long_streams: dict[int, tuple[bytes, dict[int, int]] | None] = {}
        super().__init__(stream)

    def _get_object_from_stream(self, indirect_reference: IndirectObject) -> PdfObject:
        number = indirect_reference.idnum
        inside = self.xref_objStm[number][0]
        if inside not in self._long_streams:
            self._long_streams[inside] = self._long_stream(inside)
        found = self._long_streams[inside]
        if found is None or number not in found[1]:
            return super()._get_object_from_stream(indirect_reference)
        stream = BytesIO(found[0])
        stream.seek(found[1][number])
        try:
            read_non_whitespace(stream)
            stream.seek(-1, 1)
            read = read_object(stream, self)
        except PyPdfError:
            self._long_streams[inside] = None
            return super()._get_object_from_stream(indirect_reference)
        self.cache_indirect_object(0, number, read)
        assert read is not None
        return read

    def _long_stream(self, number: int) -> tuple[bytes, dict[int, int]] | None:
        """The bytes of an object stream and where each object begins; None for short streams.

        A stream whose header is damaged is left to pypdf.
        """
        if number in self.xref_objStm:
            return None
        stream = IndirectObject(number, 0, self).get_object()
        if not isinstance(stream, StreamObject) or stream.get("/Type") != "/ObjStm":
            return None
        count, first = stream.get("/N"), stream.get("/First")
        if not isinstance(count, int) or not isinstance(first, int) or count < _MANY:
            return None
        data = stream.get_data()
        header = data[: max(0, first)].split()
        if len(header) != 2 * count or not all(each.isdigit() for each in header):
            return None
        numbers = list(map(int, header[::2]))
        places = [first + int(place) for place in header[1::2]]
        sound = all(before < after for before, after in pairwise([*places, len(data)]))
        return (data, dict(zip(numbers, places, strict=True))) if sound else None
