"""`nsa chat`: a conversation about a document, apart from where its lines come from."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from nsa_cli.documents.location import place, printable
from nsa_cli.events import AnswerFinished, AnswerText, drain
from nsa_cli.results import Citation
from nsa_models.errors import DoesNotFitError, NsaError, UsageError

if TYPE_CHECKING:
    from nsa_cli.context.tokens import TokenizedQuestion
    from nsa_cli.engine.open_document import OpenDocument
    from nsa_cli.results import Turn

ROOM = 1024
"""Tokens of room for a question with the turns before it."""

_TURNS = 3
"""Maximum earlier turns that the model sees."""

_AROUND = 2
"""Lines that `/cite` shows before and after a quote."""

COMMANDS = {
    "/help": "list the commands",
    "/sources": "list the files of the conversation",
    "/cite N": "show citation N of the last answer, with the lines around it",
    "/save FILE": "save the conversation as Markdown, or as JSON if FILE ends in .json",
    "/clear": "forget the conversation, not the document",
    "/quit": "quit; so does Ctrl-D",
}


def with_turns(
    opened: OpenDocument,
    question: str,
    turns: Sequence[Turn],
    max_tokens: int,
    instructions: str = "",
) -> tuple[TokenizedQuestion, Sequence[Turn]]:
    """Tokenize a question with as many of the last turns as the document has room for.

    Args:
        opened: The document.
        question: The question.
        turns: Earlier turns, in order.
        max_tokens: Maximum tokens of the answer.
        instructions: Instructions of the client.

    Returns:
        The question, and the turns in it.

    Raises:
        DoesNotFitError: If the question alone is too long.
    """
    from nsa_cli.context.tokens import answer_room

    turns = turns[-_TURNS:]
    while True:
        earlier = [(turn.question, turn.answer) for turn in turns]
        asked = opened.prompts.question(question, earlier, instructions)
        if answer_room([asked], max_tokens) <= opened.room:
            return asked, turns
        if not turns:
            raise DoesNotFitError("the question is too long", hint="use fewer words")
        turns = turns[1:]


@dataclass(slots=True, kw_only=True)
class Chat:
    """A conversation.

    Attributes:
        opened: The document.
        say: Shows a line that is not part of an answer; the number is how many cells the lines
            that continue it are indented by.
        answered: Questions with their answers.
        turns: The same as the model sees them.
        compute: Whether answers about tables are computed.
    """

    opened: OpenDocument
    say: Callable[[str, int], None]
    answered: list[tuple[str, AnswerFinished]] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
    compute: bool = True

    def ask(self, question: str) -> AnswerFinished:
        """Answer a question that may refer to earlier turns.

        Raises:
            DoesNotFitError: If the question is too long.
        """
        from nsa_cli.engine.answer import answer_steps
        from nsa_cli.engine.compute import computed, turn_of

        opened = self.opened
        found = computed(opened.document, question, opened.model_name) if self.compute else None
        if found is not None:
            opened.emit(AnswerText(text=found.answer))
            self.answered.append((question, found))
            self.turns.append(turn_of(opened.document, question, found))
            return found
        asked, turns = with_turns(opened, question, self.turns, opened.options.max_tokens)
        finished, turn = drain(answer_steps(opened, asked, opened.options, turns), opened.emit)
        self.answered.append((question, finished))
        self.turns.append(turn)
        return finished

    def command(self, line: str) -> bool:
        """Run a command, a line that begins with /; returns whether the conversation goes on.

        Raises:
            NsaError: If the command fails.
        """
        name, _, rest = line.partition(" ")
        rest = rest.strip()
        match name:
            case "/help" | "/?":
                width = max(map(len, COMMANDS))
                for command, meaning in COMMANDS.items():
                    self.say(f"{command:<{width}}  {meaning}", width + 2)
            case "/sources":
                self._sources()
            case "/cite":
                self._cite(rest)
            case "/save":
                self._save(rest)
            case "/clear":
                self.answered.clear()
                self.turns.clear()
                self.say("forgotten", 0)
            case "/quit" | "/exit" | "/q":
                return False
            case _:
                raise UsageError(f"unknown command {name}", hint="see /help")
        return True

    def _sources(self) -> None:
        pieces = self.opened.document.pieces
        for source in dict.fromkeys(piece.source for piece in pieces):
            own = [piece for piece in pieces if piece.source == source and piece.page is not None]
            pages = len({piece.page for piece in own})
            unit = own[0].unit if own else ""
            count = f", {pages} {unit}{'s' * (pages != 1)}" if own else ""
            self.say(f"{printable(source)}{count}", 2)
        self.say(f"{self.opened.tokens:,} tokens", 0)

    def _cite(self, number: str) -> None:
        citations = self.answered[-1][1].citations if self.answered else ()
        if not citations:
            raise UsageError("no citation yet", hint="ask a question first")
        wanted = number or "1"
        if not wanted.isdecimal() or not 1 <= int(wanted) <= len(citations):
            raise UsageError(
                f"no citation {wanted}", hint=f"give a number from 1 to {len(citations)}"
            )
        citation = citations[int(wanted) - 1]
        self.say(f"{place(citation)}:", 2)
        for line in self._around(citation):
            self.say(f"  {line}".rstrip(), 2)

    def _around(self, citation: Citation) -> list[str]:
        """Return the lines of a quote and those around it, in its page or file."""
        piece = next(
            piece
            for piece in self.opened.document.pieces
            if (piece.source, piece.page) == (citation.source, citation.page)
            and piece.first_line <= citation.line_start
            and citation.quote in self.opened.document.text[piece.start : piece.end]
        )
        lines = self.opened.document.text[piece.start : piece.end].split("\n")
        first = citation.line_start - piece.first_line
        last = citation.line_end - piece.first_line
        return lines[max(0, first - _AROUND) : last + 1 + _AROUND]

    def _save(self, name: str) -> None:
        if not name:
            raise UsageError("/save needs a file name", hint="type /save FILE")
        if not self.answered:
            raise UsageError("nothing to save yet", hint="ask a question first")
        path = Path(name).expanduser()
        text = self._as_json() if path.suffix.lower() == ".json" else self._as_markdown()
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
        except FileExistsError as error:
            raise UsageError(f"{path} already exists", hint="give another name") from error
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            raise NsaError(f"cannot write {path}: {why}", hint="give another name") from error
        self.say(f"saved in {path}", 2)

    def _as_json(self) -> str:
        turns = [{"question": asked, **asdict(finished)} for asked, finished in self.answered]
        return json.dumps({"document": self.opened.document.name, "turns": turns}, indent=2) + "\n"

    def _as_markdown(self) -> str:
        parts = [f"# {printable(self.opened.document.name)}\n"]
        for asked, finished in self.answered:
            parts.append(f"\n**{asked}**\n\n{finished.answer}\n\n")
            for number, citation in enumerate(finished.citations, 1):
                mark = "" if citation.verified else " (not verified)"
                quote = " ".join(citation.quote.split())
                parts.append(f"{number}. {place(citation)}: “{quote}”{mark}\n")
        return "".join(parts).encode("utf-8", "backslashreplace").decode()
