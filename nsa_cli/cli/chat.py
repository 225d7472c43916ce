"""`nsa chat`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nsa_cli.cli import console
from nsa_cli.cli import options as shared
from nsa_models.errors import NsaError, UsageError
from nsa_models.hub.registry import DEFAULT_MODEL

if TYPE_CHECKING:
    from nsa_cli.answering.chat import Chat
    from nsa_cli.output.renderers import HumanRenderer


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
    from nsa_cli.answering.chat import ROOM, Chat
    from nsa_cli.documents import read_sources, title
    from nsa_cli.engine.engine import Engine
    from nsa_cli.events import Note
    from nsa_cli.output.renderers import HumanRenderer

    renderer = HumanRenderer(quiet=quiet)
    try:
        read = read_sources(sources, on_note=lambda text: renderer(Note(text=text)))
        name = title(sources, len(read))
        text = Engine(options, renderer).open(read, name, ROOM + max_tokens)
        renderer.close()
        talk = Chat(opened=text, say=lambda line: _say(line))
        if sys.stdin.isatty() and not quiet:
            console.note(f"{name}, {len(text.text.ids):,} tokens; /help shows what can be typed")
        _converse(talk, renderer, keep=store)
    finally:
        renderer.close()


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _converse(talk: Chat, renderer: HumanRenderer, *, keep: bool) -> None:
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
                console.note("stopped; Ctrl-D or /quit ends")
    finally:
        prompt.close()


_FENCE = '"""'


_MOST = 1000


def join_lines(read: Callable[[bool], str]) -> str:
    """A text of one line, or of several.

    A line that ends in a backslash goes on in the next one; what stands between two times three
    quotation marks is one text.

    Args:
        read: Gives the next line; is told whether a text has begun.

    Raises:
        EOFError: If there is no line.
    """
    first = read(False)
    if first.strip().startswith(_FENCE):
        lines = [first.strip().removeprefix(_FENCE)]
        while not lines[-1].rstrip().endswith(_FENCE):
            lines.append(read(True))
        lines[-1] = lines[-1].rstrip().removesuffix(_FENCE)
        return "\n".join(lines).strip()
    lines = [first]
    while lines[-1].endswith("\\"):
        lines[-1] = lines[-1][:-1]
        lines.append(read(True))
    return "\n".join(lines).strip()


class Prompt:
    """Lines from the keyboard, with editing and history where the system has them.

    Args:
        history: Where lines are kept from one conversation to the next; None to keep none.
    """

    def __init__(self, history: Path | None) -> None:
        self._history = history
        self._readline: Any = None
        if sys.stdin.isatty():
            with suppress(ImportError):
                import readline

                self._readline = readline
        if self._readline is not None and history is not None:
            with suppress(OSError):
                self._readline.read_history_file(history)

    def __iter__(self) -> Iterator[str]:
        """Texts until the end of the input; Ctrl-C gives up the one that is being typed."""
        while True:
            try:
                yield join_lines(self._read)
            except EOFError:
                if sys.stdin.isatty():
                    sys.stderr.write("\n")
                return
            except KeyboardInterrupt:
                sys.stderr.write("\n")

    def _read(self, begun: bool) -> str:
        if not sys.stdin.isatty():
            line = sys.stdin.readline()
            if not line:
                raise EOFError
            return line.rstrip("\n")
        return input("… " if begun else "> ")

    def close(self) -> None:
        """Keep the history; a disk that cannot take it is no reason to fail."""
        if self._readline is None or self._history is None:
            return
        with suppress(OSError):
            self._history.parent.mkdir(parents=True, exist_ok=True)
            self._history.touch(mode=0o600)
            self._readline.set_history_length(_MOST)
            self._readline.write_history_file(self._history)
