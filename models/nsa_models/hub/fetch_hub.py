"""Fetch a file of a Hugging Face repository, resuming where an earlier attempt stopped.

`hf_hub_download` retries an unreachable hub for long and shows bars of its own; what a file of
known size and SHA-256 needs is one GET with a Range header, given up quickly.
"""

from __future__ import annotations

import os
import queue
import threading
from pathlib import Path
from urllib.parse import urlsplit

import requests  # type: ignore[import-untyped, unused-ignore]
from huggingface_hub import get_token, hf_hub_url

from nsa_models.hub.fetch_common import Progress, SourceFailed, file_sha256
from nsa_models.hub.registry import HubSource, ModelEntry
from nsa_models.paths import require_space

CONNECT_SECONDS = 4.0
ANSWER_SECONDS = 6.0
"""Until the first byte of an answer, name look-up, connection and redirects included."""

STALL_SECONDS = 15.0
"""Without a byte in the middle of a file, until the connection is made anew."""


def fetch_from_hub(
    source: HubSource, entry: ModelEntry, folder: Path, on_progress: Progress
) -> Path:
    """Fetch the file into `folder` under a temporary name; what is there already is kept.

    `HF_ENDPOINT`, the user's token and the usual proxy variables are honoured.

    Returns:
        The temporary file, complete and checked.

    Raises:
        SourceFailed: When the hub does not answer, does not have the file, or sends another.
        ModelError: With code `disk_full`.
    """
    partial = folder / f".{entry.name}.hub-partial"
    url = hf_hub_url(source.repo, source.file, endpoint=os.environ.get("HF_ENDPOINT") or None)
    with requests.Session() as session:
        while True:
            before = _size(partial)
            if before >= entry.size_bytes:
                break
            require_space(folder, entry.size_bytes - before, f"to fetch {entry.name}")
            try:
                _append(session, url, partial, entry, on_progress)
            except requests.RequestException as error:
                # A connection that brought something is worth making again.
                if _size(partial) == before:
                    raise SourceFailed(_reason(error, url)) from error
    if file_sha256(partial) != entry.sha256:
        partial.unlink()
        raise SourceFailed("the file it sent does not match its SHA-256")
    return partial


def _append(
    session: requests.Session, url: str, partial: Path, entry: ModelEntry, on_progress: Progress
) -> None:
    """Ask for what is missing and write it, as far as the connection holds."""
    start = _size(partial)
    headers = {"Accept-Encoding": "identity"}
    token = get_token()
    if token:
        headers["Authorization"] = f"Bearer {token}"
    if start:
        headers["Range"] = f"bytes={start}-"
    response = _open(session, url, headers)
    try:
        if response.status_code not in (200, 206):
            raise SourceFailed(f"it answered {response.status_code} {response.reason}")
        if response.status_code == 200:
            start = 0
        length = response.headers.get("Content-Length")
        if length is not None and start + int(length) != entry.size_bytes:
            raise SourceFailed(
                f"its file has {start + int(length):,} bytes instead of {entry.size_bytes:,}"
            )
        with partial.open("r+b" if start else "wb") as file:
            file.seek(start)
            for block in response.iter_content(1 << 20):
                file.write(block)
                start += len(block)
                if start > entry.size_bytes:
                    raise SourceFailed(f"it sent more than {entry.size_bytes:,} bytes")
                on_progress(start, entry.size_bytes)
    finally:
        response.close()


def _open(session: requests.Session, url: str, headers: dict[str, str]) -> requests.Response:
    """Send the request and wait for the head of the answer, for `ANSWER_SECONDS` at most.

    It happens in a thread, because looking up a host's name cannot be given a limit.
    """
    answers: queue.Queue[requests.Response | Exception] = queue.Queue()
    abandoned = threading.Event()

    def send() -> None:
        limits = (CONNECT_SECONDS, STALL_SECONDS)
        try:
            response = session.get(url, headers=headers, stream=True, timeout=limits)
        except Exception as error:
            answers.put(error)
            return
        answers.put(response)
        if abandoned.is_set():
            response.close()

    threading.Thread(target=send, name="nsa-hub", daemon=True).start()
    try:
        answer = answers.get(timeout=ANSWER_SECONDS)
    except queue.Empty:
        abandoned.set()
        raise requests.Timeout from None
    if isinstance(answer, Exception):
        raise answer
    return answer


def _reason(error: Exception, url: str) -> str:
    host = urlsplit(url).hostname
    if isinstance(error, requests.Timeout):
        return f"{host} does not answer"
    if isinstance(error, requests.exceptions.SSLError):
        return f"the certificate of {host} is not trusted"
    if isinstance(error, requests.exceptions.ProxyError):
        return f"the proxy does not lead to {host}"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return f"the connection to {host} broke"
    return f"{host} cannot be reached"


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
