"""Objects of a PDF as pypdf gives them, of any type."""

from __future__ import annotations

from typing import Any

from pypdf.generic import ArrayObject, DictionaryObject, StreamObject


def resolved(value: Any) -> Any:
    """The object that a reference names; other values as they are."""
    return value.get_object() if hasattr(value, "get_object") else value


def dictionary(value: Any) -> DictionaryObject:
    """A dictionary; an empty one for another type."""
    value = resolved(value)
    return value if isinstance(value, DictionaryObject) else DictionaryObject()


def array(value: Any) -> list[Any]:
    """The items of an array, resolved; none for another type."""
    value = resolved(value)
    return [resolved(item) for item in value] if isinstance(value, ArrayObject) else []


def integer(value: Any) -> int:
    """A whole number; 0 for another type."""
    value = resolved(value)
    return int(value) if isinstance(value, int) else 0


def string(value: Any) -> str | None:
    """A text or a name, empty for nothing; None for another type."""
    value = resolved(value)
    if value is None:
        return ""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value.removeprefix("/") if isinstance(value, str) else None


def stream(value: Any) -> bytes | None:
    """The bytes of a stream; None for another type and for a damaged one."""
    value = resolved(value)
    try:
        return value.get_data() if isinstance(value, StreamObject) else None
    except MemoryError:
        raise
    except Exception:  # pypdf leaks exceptions of many types from damaged streams.
        return None
