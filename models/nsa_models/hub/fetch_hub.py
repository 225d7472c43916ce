"""Fetch a file of a Hugging Face repository, and resume interrupted fetches.

`hf_hub_download` retries an unreachable hub for a long time and shows its own progress bars. A
file of known size and SHA-256 needs only one GET with a Range header and short timeouts.
"""

from __future__ import annotations

import os
import queue
import threading
from pathlib import Path
from urllib.parse import urlsplit

import requests  # type: ignore[import-untyped, unused-ignore]
from huggingface_hub import get_token, hf_hub_url

from nsa_models.hub.fetch_common import ByteProgress, SourceFailed, file_sha256
from nsa_models.hub.registry import HubSource, ModelEntry
from nsa_models.paths import require_space

CONNECT_SECONDS = 4.0
ANSWER_SECONDS = 6.0
"""Time limit of the response headers, including name resolution, connection and redirects."""

STALL_SECONDS = 15.0
"""Time without a byte after which the connection is replaced."""


def fetch_from_hub(
    source: HubSource, entry: ModelEntry, folder: Path, on_progress: ByteProgress
) -> Path:
    """Fetch the file to `folder` under a temporary name, and continue an earlier fetch.

    `HF_ENDPOINT`, the user's token and the usual proxy variables are used.

    Returns:
        The temporary file, complete and verified.

    Raises:
        SourceFailed: If the hub does not answer, lacks the file, or sends a different one.
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
                # Retry only if the connection transferred bytes.
                if _size(partial) == before:
                    raise SourceFailed(_reason(error, url)) from error
    if file_sha256(partial) != entry.sha256:
        partial.unlink()
        raise SourceFailed("the received file does not match its SHA-256")
    return partial


def _append(
    session: requests.Session, url: str, partial: Path, entry: ModelEntry, on_progress: ByteProgress
) -> None:
    """Request the missing bytes and append them until the connection ends."""
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
            raise SourceFailed(f"the response is {response.status_code} {response.reason}")
        if response.status_code == 200:
            start = 0
        length = response.headers.get("Content-Length")
        if length is not None and start + int(length) != entry.size_bytes:
            raise SourceFailed(
                f"the file has {start + int(length):,} bytes instead of {entry.size_bytes:,}"
            )
        with partial.open("r+b" if start else "wb") as file:
            file.seek(start)
            for block in response.iter_content(1 << 20):
                file.write(block)
                start += len(block)
                if start > entry.size_bytes:
                    raise SourceFailed(f"more than {entry.size_bytes:,} bytes were received")
                on_progress(start, entry.size_bytes)
    finally:
        response.close()


def _open(session: requests.Session, url: str, headers: dict[str, str]) -> requests.Response:
    """Send the request and wait at most `ANSWER_SECONDS` for the response headers.

    A thread sends it, because name resolution has no time limit.
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
        return f"the proxy cannot reach {host}"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return f"the connection to {host} was interrupted"
    return f"{host} cannot be reached"


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
