"""The arguments of a command divided into documents and a question."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path, PurePath

from nsa_cli.cli import console
from nsa_models.errors import UsageError

_LONGEST_NAME = 5


def divide(words: Sequence[str], command: str, kind: str) -> tuple[list[str], str]:
    """Split arguments into documents and the question, which is the last of them.

    A lone argument is the question if standard input is a pipe, unless it names a file.

    Args:
        words: The arguments.
        command: The command, for examples in messages.
        kind: `question` or `query`.

    Raises:
        UsageError: If the question or the document is missing.
    """
    if not words:
        raise UsageError(
            f"no {kind}", hint=f"name a document and a {kind}: {_example(command, 'report.pdf')}"
        )
    *sources, last = words
    if not last.strip():
        raise UsageError(f"the {kind} is empty", hint=f"type a {kind}")
    if last == "-":
        raise _no_question(last, command, kind)
    if _is_document(last):
        if sources:
            from nsa_cli.documents.names import is_url

            what = "a URL" if is_url(last) else "a folder" if Path(last).is_dir() else "a file"
            raise UsageError(f"no {kind}: {last} is {what}", hint=f"put the {kind} after it")
        raise _no_question(last, command, kind)
    if not sources:
        if piped():
            return ["-"], last
        if _looks_like_file(last):
            raise _no_question(last, command, kind)
        raise no_document(f"name one before the {kind}: {_example(command, 'report.pdf', last)}")
    return sources, last


def with_pipe(sources: Sequence[str], example: str) -> list[str]:
    """Return the documents that are named, or standard input if it is a pipe.

    Args:
        sources: The documents.
        example: A command that names one.

    Raises:
        UsageError: If no document is named and nothing is piped in.
    """
    if sources:
        return list(sources)
    if not piped():
        raise no_document(f"name one: {example}")
    return ["-"]


def piped() -> bool:
    """Whether standard input is a pipe with something in it; say so when it makes one wait."""
    from nsa_cli.documents.standard_input import is_piped

    return is_piped(lambda: console.note("waiting for standard input; Ctrl-C ends it"))


def no_document(hint: str) -> UsageError:
    """Return the error for a command without a document."""
    return UsageError("no document", hint=hint)


def _no_question(name: str, command: str, kind: str) -> UsageError:
    what = "standard input" if name == "-" else name
    return UsageError(
        f"no {kind} about {what}" if kind == "question" else f"no {kind} for {what}",
        hint=f"add one: {_example(command, name)}",
    )


def _example(command: str, name: str, question: str = "") -> str:
    from nsa_cli.documents.location import short

    asked = {"ask": "Who wrote it?", "find": "termination clause"}[command]
    text = short(question, 60).replace('"', "'") or asked
    return f'nsa {command} {shlex.quote(name)} "{text}"'


def _is_document(word: str) -> bool:
    from nsa_cli.documents.names import existing_name, is_url

    try:
        return is_url(word) or Path(existing_name(word)).exists()
    except (OSError, ValueError):
        return False


def _looks_like_file(word: str) -> bool:
    """Whether a word that names no file was meant to, as `raport.pdf`."""
    suffix = PurePath(word).suffix
    return not any(map(str.isspace, word)) and (
        "/" in word or (1 < len(suffix) <= _LONGEST_NAME and suffix[1:].isalnum())
    )
