"""What may be fetched from the web."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from nsa_cli.documents.errors import UnreadableError


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of one fetch.

    Attributes:
        bytes: Bytes of a document, before and after decompression.
        seconds: Seconds for all of it, redirects included.
        idle_seconds: Seconds without a byte.
        redirects: Redirects to follow.
    """

    bytes: int = 100_000_000
    seconds: float = 120.0
    idle_seconds: float = 20.0
    redirects: int = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class WebAccess:
    """How URLs are fetched.

    Attributes:
        forbidden: Why none is fetched, such as `NSA_OFFLINE forbids the network`; empty if allowed.
        allow_private: Whether addresses that are not public may be connected to.
        store: Whether responses are kept in the cache folder.
        limits: Limits of one fetch.
        on_progress: Called with the URL, the bytes received and the bytes in all.
    """

    forbidden: str = ""
    allow_private: bool = False
    store: bool = True
    limits: Limits = field(default_factory=Limits)
    on_progress: Callable[[str, int, int], None] | None = None


def not_fetched(url: str, why: str = "") -> UnreadableError:
    """Return the error for a URL where the network is not used."""
    reason = f" ({why})" if why else ""
    return UnreadableError(
        f"URLs are not fetched here{reason}: {url}", hint="save it first", code="not_fetched"
    )
