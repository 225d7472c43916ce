"""`nsa chat`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from nsa_cli.commands import shared
from nsa_models.errors import NsaError, UsageError
from nsa_models.registry import DEFAULT_MODEL

if TYPE_CHECKING:
    from nsa_cli.chat import Chat
    from nsa_cli.render import HumanRenderer

HELP = """Talk about documents; questions may take up earlier ones.

\b
    nsa chat report.pdf
    nsa chat src README.md

A line that ends in a backslash goes on in the next one. Ctrl-C stops an answer, Ctrl-D or /quit
ends, /help shows the rest.
"""


def chat(
    sources: shared.Paths,
    model: shared.Model = DEFAULT_MODEL,
    pages: shared.Pages = None,
    ocr: shared.Ocr = None,
    every_line: shared.EveryLine = False,
    max_tokens: shared.MaxTokens = 256,
    temperature: shared.Temperature = 0.0,
    seed: shared.Seed = None,
    system: shared.System = None,
    password: shared.Password = None,
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
    """Talk about documents; questions may take up earlier ones."""
    options = shared.options(
        model=model,
        device=device,
        pages=pages,
        ocr=ocr,
        every_line=every_line,
        password=password,
        store=store,
        cache_limit=cache_limit,
        quantize=quantize,
        adapter=adapter,
        no_adapter=no_adapter,
        memory=memory,
        system=system,
        max_tokens=max_tokens,
        temperature=temperature,
        seed=seed,
        answer_blocks=answer_blocks,
    )
    if "-" in sources:
        raise UsageError("- cannot be talked about", hint="standard input has the questions")
    from nsa_cli.chat import ROOM, Chat
    from nsa_cli.desk import Desk
    from nsa_cli.documents import read_sources, title
    from nsa_cli.events import Note
    from nsa_cli.render import HumanRenderer

    renderer = HumanRenderer(quiet=quiet)
    try:
        read = read_sources(sources, on_note=lambda text: renderer(Note(text=text)))
        name = title(sources, len(read))
        text = Desk(options, renderer).open(read, name, ROOM + max_tokens)
        renderer.close()
        talk = Chat(text=text, say=lambda line: _say(line))
        if sys.stdin.isatty() and not quiet:
            shared.note(f"{name}, {len(text.text.ids):,} tokens; /help shows what can be typed")
        _converse(talk, renderer, keep=store)
    finally:
        renderer.close()


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _converse(talk: Chat, renderer: HumanRenderer, *, keep: bool) -> None:
    from nsa_cli.lines import Prompt
    from nsa_models.paths import cache_root

    prompt = Prompt(cache_root() / "chat_history" if keep else None)
    try:
        for line in prompt:
            if not line:
                continue
            try:
                if line.startswith("/"):
                    if not talk.command(line):
                        break
                else:
                    renderer.finish_answer(talk.ask(line))
            except NsaError as error:
                renderer.fail(error)
            except KeyboardInterrupt:
                renderer.stop()
                shared.note("stopped; Ctrl-D or /quit ends")
    finally:
        prompt.close()
