"""A conversation about one text: what a line does, apart from where lines come from."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from nsa_cli.documents.location import place, printable
from nsa_cli.events import Finished
from nsa_cli.results import Citation
from nsa_models.errors import DoesNotFitError, NsaError, UsageError

if TYPE_CHECKING:
    from nsa_cli.engine.open_document import OpenText
    from nsa_cli.results import Turn

ROOM = 1024
"""Tokens of room for a question and the turns before it."""

_TURNS = 3
"""Earlier turns that the model sees."""

_AROUND = 2
"""Lines that `/cite` shows before and after a quote."""

COMMANDS = {
    "/help": "what can be typed",
    "/sources": "what the conversation is about",
    "/cite N": "citation N of the last answer, with the lines around it",
    "/save FILE": "the conversation as Markdown, or as JSON where FILE ends in .json",
    "/clear": "forget the conversation, not the text",
    "/quit": "end; so does Ctrl-D",
}


@dataclass(slots=True, kw_only=True)
class Chat:
    """A conversation.

    Attributes:
        text: What it is about.
        answered: Questions and what came of them.
        turns: What the model sees of them.
        say: Shows lines that are no answer.
        instructions: What answers are to heed.
    """

    text: OpenText
    say: Callable[[str], None]
    answered: list[tuple[str, Finished]] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
    instructions: str = ""

    def ask(self, question: str) -> Finished:
        """Answer a question that may take up earlier ones.

        Raises:
            DoesNotFitError: If the question is too long.
        """
        turns = self.turns[-_TURNS:]
        while turns and self._tokens(question, turns) > self.text.room:
            turns = turns[1:]
        if self._tokens(question, turns) > self.text.room:
            raise DoesNotFitError("the question is too long", hint="ask in fewer words")
        finished, turn = self.text.answer_after(turns, question, self.instructions)
        self.answered.append((question, finished))
        self.turns.append(turn)
        return finished

    def _tokens(self, question: str, turns: list[Turn]) -> int:
        earlier = [(turn.question, turn.answer) for turn in turns]
        asked = self.text.session.prompter.question(question, earlier, self.instructions)
        return len(asked.ids) + self.text.session.options.max_tokens

    def command(self, line: str) -> bool:
        """Do what a line that begins with / says; whether the conversation goes on.

        Raises:
            NsaError: If it cannot be done.
        """
        name, _, rest = line.partition(" ")
        rest = rest.strip()
        match name:
            case "/help" | "/?":
                width = max(map(len, COMMANDS))
                for command, meaning in COMMANDS.items():
                    self.say(f"{command:<{width}}  {meaning}")
            case "/sources":
                self._sources()
            case "/cite":
                self._cite(rest)
            case "/save":
                self._save(rest)
            case "/clear":
                self.answered.clear()
                self.turns.clear()
                self.say("forgotten")
            case "/quit" | "/exit" | "/q":
                return False
            case _:
                raise UsageError(f"there is no command {name}", hint="see /help")
        return True

    def _sources(self) -> None:
        pieces = self.text.document.pieces
        for source in dict.fromkeys(piece.source for piece in pieces):
            own = [piece for piece in pieces if piece.source == source and piece.page is not None]
            pages = len({piece.page for piece in own})
            unit = own[0].unit if own else ""
            count = f", {pages} {unit}{'s' * (pages != 1)}" if own else ""
            self.say(f"{printable(source)}{count}")
        self.say(f"{self.text.tokens:,} tokens")

    def _cite(self, number: str) -> None:
        citations = self.answered[-1][1].citations if self.answered else ()
        if not citations:
            raise UsageError("there is no citation yet", hint="ask something first")
        wanted = number or "1"
        if not wanted.isdecimal() or not 1 <= int(wanted) <= len(citations):
            raise UsageError(
                f"there is no citation {wanted}", hint=f"say a number from 1 to {len(citations)}"
            )
        citation = citations[int(wanted) - 1]
        self.say(f"{place(citation)}:")
        for line in self._around(citation):
            self.say(f"  {line}")

    def _around(self, citation: Citation) -> list[str]:
        """The lines of a quote and those around it, in its page or file."""
        piece = next(
            piece
            for piece in self.text.document.pieces
            if (piece.source, piece.page) == (citation.source, citation.page)
            and piece.first_line <= citation.line_start
            and citation.quote in self.text.document.text[piece.start : piece.end]
        )
        lines = self.text.document.text[piece.start : piece.end].split("\n")
        first = citation.line_start - piece.first_line
        last = citation.line_end - piece.first_line
        return lines[max(0, first - _AROUND) : last + 1 + _AROUND]

    def _save(self, name: str) -> None:
        if not name:
            raise UsageError("no file is named", hint="say /save FILE")
        if not self.answered:
            raise UsageError("there is nothing to save yet", hint="ask something first")
        path = Path(name).expanduser()
        text = self._as_json() if path.suffix.lower() == ".json" else self._as_markdown()
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
        except FileExistsError as error:
            raise UsageError(f"{path} is there already", hint="name another file") from error
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            raise NsaError(f"{path} cannot be written: {why}", hint="name another file") from error
        self.say(f"saved in {path}")

    def _as_json(self) -> str:
        turns = [{"question": asked, **asdict(finished)} for asked, finished in self.answered]
        return json.dumps({"document": self.text.document.name, "turns": turns}, indent=2) + "\n"

    def _as_markdown(self) -> str:
        parts = [f"# {printable(self.text.document.name)}\n"]
        for asked, finished in self.answered:
            parts.append(f"\n**{asked}**\n\n{finished.answer}\n\n")
            for number, citation in enumerate(finished.citations, 1):
                mark = "" if citation.verified else " (not verified)"
                quote = " ".join(citation.quote.split())
                parts.append(f"{number}. {place(citation)}: “{quote}”{mark}\n")
        return "".join(parts).encode("utf-8", "backslashreplace").decode()
