"""Stop strings: the text of an answer ends before the first of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from nsa_cli.events import AnswerText, TokenLogprob


@dataclass(slots=True)
class StopStrings:
    """Holds text back while it may be the beginning of a stop string; omits leading white space.

    Attributes:
        stops: The stop strings; none is empty.
        stopped: Whether one was found.
    """

    stops: Sequence[str]
    stopped: bool = False
    _held: str = ""
    _tokens: list[tuple[int, TokenLogprob]] = field(default_factory=list)
    _given: int = 0

    def push(self, piece: str, token: TokenLogprob | None = None) -> AnswerText | None:
        """Take the text of a token; return what can be shown.

        Args:
            piece: The text; empty for a token that completes no character.
            token: The token, if probabilities are asked for.
        """
        begin = self._given + len(self._held)
        if begin == 0:
            piece = piece.lstrip()
        self._held += piece
        if token is not None:
            self._tokens.append((begin, token))
        places = [at for stop in self.stops if (at := self._held.find(stop)) >= 0]
        if places:
            self.stopped = True
            return self._give(min(places))
        return self._give(len(self._held) - self._doubtful())

    def rest(self, piece: str) -> AnswerText | None:
        """Return all that was held back; the answer has ended with a last piece."""
        shown = self.push(piece)
        if self.stopped:
            return shown
        more = self._give(len(self._held))
        if shown is None or more is None:
            return shown or more
        return AnswerText(text=shown.text + more.text, tokens=shown.tokens + more.tokens)

    def _doubtful(self) -> int:
        """Characters at the end that may begin a stop string."""
        most = max((len(stop) for stop in self.stops), default=1) - 1
        for size in range(min(most, len(self._held)), 0, -1):
            if any(stop.startswith(self._held[-size:]) for stop in self.stops):
                return size
        return 0

    def _give(self, count: int) -> AnswerText | None:
        if count <= 0:
            return None
        text, self._held = self._held[:count], self._held[count:]
        self._given += count
        tokens = tuple(token for begin, token in self._tokens if begin < self._given)
        self._tokens = [each for each in self._tokens if each[0] >= self._given]
        return AnswerText(text=text, tokens=tokens)
