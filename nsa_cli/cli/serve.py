"""`nsa serve`."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from nsa_cli.cli import console
from nsa_cli.cli import options as shared
from nsa_models.errors import UsageError
from nsa_models.hub.registry import DEFAULT_MODEL

HELP = """Answer over HTTP, as OpenAI's API does, with a page for the browser.

\b
    nsa serve
    nsa serve --root contracts/ --port 9000
    NSA_API_KEY=... nsa serve --host 0.0.0.0

Clients upload documents (POST /v1/files) or name files of --root, and ask about them with
POST /v1/chat/completions: "documents": ["file-..."]. Ctrl-C ends.
"""


def serve(
    host: Annotated[
        str, typer.Option("--host", help="Others than this machine need --api-key.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="0 takes any that is free.")
    ] = 8765,
    root: Annotated[
        Path | None, typer.Option("--root", help="A folder whose files clients may ask about.")
    ] = None,
    api_key: Annotated[
        str | None,
        typer.Option("--api-key", envvar="NSA_API_KEY", help="What clients must show."),
    ] = None,
    upload_limit: Annotated[
        float, typer.Option("--upload-limit", min=0.001, help="MB of a request at most.")
    ] = 100.0,
    model: shared.Model = DEFAULT_MODEL,
    max_tokens: shared.MaxTokens = 256,
    ocr: shared.Ocr = None,
    device: shared.Device = "auto",
    store: shared.Store = True,
    cache_limit: shared.CacheLimit = shared.CACHE_LIMIT_GB,
    answer_blocks: shared.AnswerBlocks = None,
    quantize: shared.Quantize = None,
    adapter: shared.Adapter = None,
    no_adapter: shared.NoAdapter = False,
    memory: shared.Memory = None,
    quiet: shared.Quiet = False,
) -> None:
    """Answer over HTTP, as OpenAI's API does, with a page for the browser."""
    options = shared.options(
        model=model,
        device=device,
        pages=None,
        ocr=ocr,
        password=None,
        store=store,
        cache_limit=cache_limit,
        quantize=quantize,
        adapter=adapter,
        no_adapter=no_adapter,
        memory=memory,
        max_tokens=max_tokens,
        answer_blocks=answer_blocks,
    )
    if root is not None and not root.is_dir():
        raise UsageError(f"--root {root} is no folder", hint="name a folder")
    if api_key is not None and not api_key.strip():
        raise UsageError("the API key is empty", hint="leave it out, or set NSA_API_KEY to one")
    try:
        from nsa_cli.serve.jobs import MOST_TOKENS
        from nsa_cli.serve.server import Listening, serve
    except ModuleNotFoundError as error:
        if error.name not in ("starlette", "uvicorn", "python_multipart"):
            raise
        raise UsageError(
            f"serving needs the library {error.name}, which is not installed",
            hint="install it with `pip install 'nsa[serve]'`",
            code="missing_library",
        ) from error
    if max_tokens > MOST_TOKENS:
        raise UsageError(
            f"--max-tokens is {max_tokens}", hint=f"say {MOST_TOKENS} at most when serving"
        )
    listening = Listening(
        host=host,
        port=port,
        api_key=api_key,
        root=root,
        most_bytes=int(upload_limit * 1e6),
    )
    with console.rendering(json=False, quiet=quiet) as renderer:

        def ready(address: str, name: str) -> None:
            renderer.close()
            console.note(f"{name} answers at {address}/v1, the page is {address}/", quiet=quiet)

        with suppress(KeyboardInterrupt):
            serve(listening, options, renderer, ready)
        console.note("ended; what was read is kept" if store else "ended", quiet=quiet)
