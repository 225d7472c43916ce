"""`nsa ask`."""

from __future__ import annotations

from typing import Annotated

import typer

from nsa_cli.commands import shared
from nsa_models.errors import UsageError
from nsa_models.registry import DEFAULT_MODEL


def ask(
    source: Annotated[str, typer.Argument(help="A PDF or text file, or - for standard input.")],
    question: Annotated[str, typer.Argument(help="What you want to know.")],
    model: shared.Model = DEFAULT_MODEL,
    json: shared.Json = False,
    max_tokens: shared.MaxTokens = 256,
    temperature: shared.Temperature = 0.0,
    seed: shared.Seed = None,
    system: shared.System = None,
    password: shared.Password = None,
    attention: shared.Attention = "nsa",
    device: shared.Device = "auto",
    store: shared.Store = True,
    cache_limit: shared.CacheLimit = shared.CACHE_LIMIT_GB,
    quiet: shared.Quiet = False,
) -> None:
    """Answer a question about a document, with the pages it stands on."""
    shared.check_attention(attention)
    shared.check_device(device)
    if not question.strip():
        raise UsageError("the question is empty", hint="say what you want to know")
    with shared.rendering(json=json, quiet=quiet) as renderer:
        from nsa_cli.asking import ask as answer
        from nsa_cli.options import Options

        options = Options(
            model=model,
            device=device,
            dense=attention == "dense",
            password=password,
            system=system,
            max_tokens=max_tokens,
            temperature=temperature,
            seed=seed,
            store=store,
            cache_limit_bytes=shared.limit_bytes(cache_limit),
        )
        renderer.finish(answer(source, question, options, renderer))
