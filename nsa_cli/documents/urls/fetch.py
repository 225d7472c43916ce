"""The bytes of a URL, through redirects, from the cache where they have not changed."""

from __future__ import annotations

import codecs
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from http import HTTPStatus
from urllib.parse import SplitResult, quote, urldefrag, urljoin, urlsplit

from nsa_cli import __version__
from nsa_cli.documents.errors import UnreadableError
from nsa_cli.documents.urls import kept
from nsa_cli.documents.urls.access import WebAccess, not_fetched
from nsa_cli.documents.urls.exchange import request
from nsa_cli.documents.urls.kinds import named_as, suffix_of

_SCHEMES = ("http", "https")
_MOVED = (301, 302, 303, 307, 308)
_HEADERS = {
    "User-Agent": f"nsa/{__version__}",
    "Accept": "text/html, application/pdf, text/plain, */*;q=0.5",
    "Accept-Encoding": "gzip",
    "Connection": "close",
}
_TEXTS = (".html", ".xhtml", ".json", ".xml")
_SAFE = "/%:@!$&'()*+,;=~-._?"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """A document from the web.

    Attributes:
        data: Its bytes.
        suffix: Suffix of its format by its content type, such as `.html`; may be empty.
        notes: What the user should know about it.
    """

    data: bytes
    suffix: str
    notes: tuple[str, ...] = ()


def fetch(url: str, access: WebAccess) -> Fetched:
    """Fetch a document.

    Redirects are followed, but never from https to http. Each address is checked before it is
    connected to.

    Args:
        url: An http or https URL.
        access: How URLs are fetched.

    Raises:
        UnreadableError: If it may not or cannot be fetched, or is no document.
        DoesNotFitError: If it is too large.
    """
    if access.forbidden:
        raise not_fetched(url, access.forbidden)
    deadline = time.monotonic() + access.limits.seconds
    here = asked = urldefrag(url).url
    for _ in range(access.limits.redirects + 1):
        parts = _parts(here)
        known = kept.recall(here) if access.store else None
        conditions = known.conditions if known is not None else {}
        with _redirected(asked, here):
            response = request(here, parts, {**_HEADERS, **conditions}, access, deadline)
        if known is not None and response.status == HTTPStatus.NOT_MODIFIED:
            if asked not in known.asked:
                kept.keep(here, known.message, known.body, {*known.asked, asked})
            return _document(url, here, known.message, known.body)
        if response.status == HTTPStatus.OK:
            found = _document(url, here, response.headers, response.body)
            if access.store:
                before = frozenset() if known is None else known.asked
                kept.keep(here, response.headers, response.body, {*before, asked})
            return found
        if response.status not in _MOVED or "Location" not in response.headers:
            raise _refused(here, response.status)
        there = urldefrag(urljoin(here, response.headers["Location"])).url
        if parts.scheme == "https" and urlsplit(there).scheme != "https":
            raise UnreadableError(
                f"{here} redirects to {there}, which is not encrypted",
                hint="name that URL if you trust it",
                code="insecure_redirect",
            )
        here = there
    raise UnreadableError(
        f"{url} redirects more than {access.limits.redirects} times",
        hint="check the address",
        code="redirects",
    )


@contextmanager
def _redirected(asked: str, here: str) -> Iterator[None]:
    """Name the URL that the user named in the refusal of one that it leads to."""
    try:
        yield
    except UnreadableError as error:
        if asked == here or error.code != "private_address":
            raise
        told = f"{asked} redirects to {here}: {error.message}"
        raise UnreadableError(told, hint=error.hint, code=error.code) from error


def _parts(url: str) -> SplitResult:
    """Split a URL, with its host and path in ASCII.

    Raises:
        UnreadableError: If it is no http or https URL, or holds a user's name.
    """
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").encode("idna").decode("ascii")
        port = "" if parts.port is None else f":{parts.port}"
    except (ValueError, UnicodeError) as error:
        raise UnreadableError(
            f"{url} is not a valid URL ({error})", hint="check the address", code="missing"
        ) from error
    if parts.scheme not in _SCHEMES:
        raise UnreadableError(
            f"{parts.scheme} URLs are not fetched: {url}",
            hint="download it first",
            code="not_fetched",
        )
    if not host:
        raise UnreadableError(f"{url} has no host", hint="check the address", code="missing")
    if parts.username is not None or parts.password is not None:
        raise UnreadableError(
            f"URLs with a user's name are not fetched: {parts.scheme}://…@{host}",
            hint="download it first",
            code="not_fetched",
        )
    netloc = f"[{host}]{port}" if ":" in host else f"{host}{port}"
    path, query = (quote(part, safe=_SAFE) for part in (parts.path, parts.query))
    return parts._replace(netloc=netloc, path=path, query=query, fragment="")


def _document(url: str, here: str, headers: Message, body: bytes) -> Fetched:
    suffix = suffix_of(headers, here)
    notes: tuple[str, ...] = ()
    if suffix in (".html", ".xhtml") and named_as(url) == ".pdf":
        notes = (f"{url} is a web page, although its name ends in .pdf",)
    charset = headers.get_content_charset()
    if charset and (headers.get_content_maintype() == "text" or suffix in _TEXTS):
        body = _as_utf8(body, charset)
    return Fetched(data=body, suffix=suffix, notes=notes)


def _as_utf8(body: bytes, charset: str) -> bytes:
    """Return a text in a declared charset as marked UTF-8; other bodies as they are."""
    try:
        encoding = codecs.lookup(charset).name
        if encoding in ("utf-8", "ascii"):
            return body
        label = "cp1252" if encoding == "iso8859-1" else encoding  # as browsers do
        return codecs.BOM_UTF8 + body.decode(label).encode("utf-8")
    except (LookupError, UnicodeError, TypeError):
        return body


def _refused(url: str, status: int) -> UnreadableError:
    try:
        told = f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        told = str(status)
    hint = "check the address"
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS):
        hint = "open it in a browser, and save the page"
    elif status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        hint = "try again later"
    return UnreadableError(f"{url}: the server answered {told}", hint=hint, code="http")
