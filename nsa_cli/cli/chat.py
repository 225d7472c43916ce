"""`nsa chat`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nsa_cli.cli import console, options
from nsa_cli.cli.errors import Terminated
from nsa_cli.config.options import AUTO, Options
from nsa_models.errors import NsaError, UsageError

if TYPE_CHECKING:
    from nsa_cli.answering.chat import Chat
    from nsa_cli.output.renderers import HumanRenderer


HELP = """Hold a conversation about documents.

\b
    nsa chat report.pdf
    nsa chat src README.md

A question can refer to earlier ones. End a line with a backslash to continue it. Ctrl-C stops an
answer, Ctrl-D or /quit ends the chat, /help lists the commands.
"""

_FENCE = '"""'
_HISTORY_LINES = 1000


@options.takes(
    *options.DOCUMENTS, *options.ANSWERS, *options.MODEL, "answer_blocks", answer_model=AUTO
)
def chat(opts: Options, sources: options.Paths, quiet: options.Quiet = False) -> None:
    """Hold a conversation about documents."""
    if "-" in sources:
        raise UsageError(
            "nsa chat needs a file: standard input is used for your questions",
            hint="save the text to a file",
        )
    from nsa_cli.output.renderers import HumanRenderer

    renderer = HumanRenderer(quiet=quiet)
    try:
        console.show_opening(renderer, sources)
        from nsa_cli.answering.chat import ROOM, Chat
        from nsa_cli.answering.read import read
        from nsa_cli.documents import title
        from nsa_cli.engine.engine import Engine

        found = read(sources, opts, renderer)
        name = title(sources, len(found))
        opened = Engine(opts, renderer).open(found, name, ROOM + opts.max_tokens)
        renderer.close()
        talk = Chat(opened=opened, say=_say, compute=opts.compute)
        if sys.stdin.isatty() and not quiet:
            console.note(f"{name}, {len(opened.text.ids):,} tokens; /help lists the commands")
        _converse(talk, renderer, store=opts.store)
    finally:
        renderer.close()


def _say(line: str, hanging: int) -> None:
    """Print a line of a command's output, broken at words at a terminal."""
    from nsa_cli.output.layout import columns, wrap

    sys.stdout.write(wrap(line, columns(sys.stdout), hanging) + "\n")
    sys.stdout.flush()


def _converse(talk: Chat, renderer: HumanRenderer, *, store: bool) -> None:
    from nsa_models.paths import cache_root

    reader = LineReader(cache_root() / "chat_history" if store else None)
    try:
        for line in reader:
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
            except Terminated:
                raise
            except KeyboardInterrupt:
                renderer.stop()
                console.note("stopped; Ctrl-D or /quit ends the chat")
    finally:
        reader.close()


def join_lines(read: Callable[[bool], str]) -> str:
    """Read a message of one or more lines.

    A backslash at the end of a line continues it, and three quotation marks enclose several lines.

    Args:
        read: Returns the next line; its argument says whether the message has begun.

    Raises:
        EOFError: At the end of the input.
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


class LineReader:
    """Messages from the keyboard, with editing and history where readline is available.

    Args:
        history: File for the history; None to store none.
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
        """Yield messages until the end of the input; Ctrl-C discards the current one."""
        while True:
            try:
                yield join_lines(self._read)
            except EOFError:
                if sys.stdin.isatty():
                    sys.stderr.write("\n")
                return
            except Terminated:
                raise
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
        """Save the history; ignore a disk that refuses it."""
        if self._readline is None or self._history is None:
            return
        with suppress(OSError):
            self._history.parent.mkdir(parents=True, exist_ok=True)
            self._history.touch(mode=0o600)
            self._readline.set_history_length(_HISTORY_LINES)
            self._readline.write_history_file(self._history)
