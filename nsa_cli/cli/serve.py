"""`nsa serve`."""

from __future__ import annotations

import signal
import sys
from contextlib import suppress
from pathlib import Path
from threading import current_thread, main_thread
from typing import Annotated

from nsa_cli.cli import console, options, values
from nsa_cli.config.options import AUTO, Options
from nsa_cli.system import install_hint
from nsa_models.errors import UsageError

HELP = """Serve OpenAI's API over HTTP, with a page for the browser.

\b
    nsa serve
    nsa serve --root contracts/ --port 9000
    nsa serve --fetch-urls
    NSA_API_KEY=... nsa serve --host 0.0.0.0

Clients upload documents (POST /v1/files) or name files of --root, and ask about them with
POST /v1/chat/completions: "documents": ["file-..."]. Ctrl-C stops the server.
"""


@options.takes(
    *(*options.MODEL, "ocr", "no_compute", "max_tokens", "answer_blocks"),
    *("no_network", "allow_private"),
    answer_model=AUTO,
)
def serve(
    opts: Options,
    host: Annotated[
        str,
        options.option("--host", "ADDRESS", "Address to listen on; a public one needs --api-key."),
    ] = "127.0.0.1",
    port: Annotated[
        int,
        options.option("--port", "N", "Port to listen on; 0 for any free one.", min=0, max=65535),
    ] = 8765,
    root: Annotated[
        Path | None,
        options.option("--root", "FOLDER", "Folder with files that clients may ask about."),
    ] = None,
    fetch_urls: Annotated[
        bool, options.option("--fetch-urls", None, "Fetch the URLs that clients name.")
    ] = False,
    api_key: Annotated[
        str | None,
        options.option("--api-key", "KEY", "Key that clients must send.", envvar="NSA_API_KEY"),
    ] = None,
    upload_limit: Annotated[
        float, options.option("--upload-limit", "MB", "Maximum size of a request.", min=0.001)
    ] = 100.0,
    idle_exit: Annotated[
        str | None,
        options.option("--idle-exit", "TIME", "End after no request for this time, such as 10m."),
    ] = None,
    log: Annotated[
        bool,
        options.option(
            "--log", None, "Write a line for each request to standard error, without contents."
        ),
    ] = False,
    quiet: options.Quiet = False,
) -> None:
    """Serve OpenAI's API over HTTP, with a page for the browser."""
    if root is not None and not root.is_dir():
        raise UsageError(f"--root: {root} is not a folder", hint="name a folder")
    if api_key is not None and not api_key.strip():
        raise UsageError("the API key is empty", hint="set NSA_API_KEY, or leave --api-key out")
    try:
        from nsa_cli.serve.jobs import MOST_TOKENS
        from nsa_cli.serve.server import Listening, serve
    except ModuleNotFoundError as error:
        if error.name not in ("starlette", "uvicorn", "python_multipart"):
            raise
        raise UsageError(
            f"serving needs the library {error.name}, which is not installed",
            hint=install_hint("serve"),
            code="missing_library",
        ) from error
    if opts.max_tokens > MOST_TOKENS:
        raise values.invalid("--max-tokens", opts.max_tokens, f"use at most {MOST_TOKENS}")
    if opts.allow_private and not fetch_urls:
        raise UsageError("--allow-private needs --fetch-urls", hint="add it")
    idle_seconds = None if idle_exit is None else values.seconds("--idle-exit", idle_exit)
    listening = Listening(
        host=host,
        port=port,
        api_key=api_key,
        root=root,
        fetch_urls=fetch_urls,
        most_bytes=int(upload_limit * 1e6),
        log=_log if log else None,
        idle_seconds=idle_seconds,
    )
    with console.rendering(json=False, quiet=quiet) as renderer:

        def ready(address: str, name: str) -> None:
            renderer.close()
            console.note(f"{name} answers at {address}/v1, the page is {address}/", quiet=quiet)

        if current_thread() is main_thread():
            signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the server handles it itself
        was_idle = False
        with suppress(KeyboardInterrupt):
            was_idle = serve(listening, opts, renderer, ready)
        why = f" after {idle_exit} without a request" if was_idle else ""
        kept = "; readings are stored" if opts.store else ""
        console.note(f"stopped{why}{kept}", quiet=quiet)


def _log(line: str) -> None:
    """Write a line of the request log; a closed standard error does not stop the server."""
    with suppress(OSError, ValueError):
        sys.stderr.write(line + "\n")
        sys.stderr.flush()
