"""A log that takes too long to read whole: lines of each kind are read."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nsa_cli.documents import Document
from nsa_cli.documents.folding import Folded, Sifted
from nsa_cli.events import Emit, Note, Progress

if TYPE_CHECKING:
    from nsa_cli.context.prompt import PromptBuilder
    from nsa_cli.context.tokens import TokenizedText

LONGEST_SECONDS = 60.0
"""A log whose prefill takes longer is sampled by kinds of lines."""

SHARES = (1 / 8, 1 / 4, 1 / 2, 1, 2, 4)
"""Token budgets of a sampled log, as shares of the trained context.

A few sizes and not any, so that a log is sampled alike although the measured speed varies, and its
stored KV cache serves again."""

MOST_OF_WHOLE = 1 / 2
"""Maximum share of a log's tokens in a sample: leaving out less is not worth it."""

_CHARACTERS = 3.0
"""Estimated characters of a token in a log."""

Seconds = Callable[["TokenizedText"], float]
"""Estimates the prefill of a text, in seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSampler:
    """Samples a log that does not fit or takes longer than `LONGEST_SECONDS`.

    Attributes:
        prompts: Tokenizes a sample.
        emit: Receives progress, and a note that says what is left out; it is also a warning of
            the sample.
        most: Maximum tokens of a text.
        trained: Tokens of the model's trained context.
        room: Tokens that questions and answers need behind a text.
        seconds: Estimates the prefill of a text.
    """

    prompts: PromptBuilder
    emit: Emit
    most: int
    trained: int
    room: int
    seconds: Seconds

    def fit(
        self, log: Document, text: TokenizedText | None
    ) -> tuple[Document, TokenizedText | None]:
        """Return a log as it is if its prefill is quick, or else lines of each kind.

        Args:
            log: The log.
            text: The whole log; None if it is far too long.

        Returns:
            The log or the sample, and its tokens. The log stays whole if its lines do not repeat,
            or if no budget has room for a line of each kind: a sample has at most
            `MOST_OF_WHOLE` of the tokens of a log that fits.
        """
        most, seconds = self.most, math.inf
        if text is not None and len(text.ids) <= most:
            most = int(len(text.ids) * MOST_OF_WHOLE)
            seconds = self.seconds(text) if self._budgets(most) else 0.0
        if seconds <= LONGEST_SECONDS:
            return log, text
        sifted = self._sifted(log)
        best = self._largest(sifted, self._budgets(most)) if sifted.repeats else None
        if best is None:
            return log, text
        warning = _told(best[0], sifted.kinds, log.name, seconds)
        self.emit(Note(text=warning))
        sample = replace(best[0].document, warnings=(*log.warnings, warning))
        return sample, best[1]

    def _budgets(self, most: int) -> list[int]:
        """Token budgets of a sample, ascending; none has more than `most` tokens."""
        window = self.trained - self.room
        budgets = [int(share * self.trained) for share in SHARES]
        budgets = [min(each, window) if each <= self.trained else each for each in budgets]
        return [each for each in budgets if each <= most]

    def _largest(
        self, sifted: Sifted, budgets: Sequence[int]
    ) -> tuple[Folded, TokenizedText] | None:
        """Return the largest sample that takes at most `LONGEST_SECONDS`, or else the smallest."""
        best = None
        for budget in budgets:
            found = self._sample(sifted, budget)
            if found is None:
                continue
            if best is not None and self.seconds(found[1]) > LONGEST_SECONDS:
                break
            best = found
        return best

    def _sifted(self, log: Document) -> Sifted:
        task = f"Sifting {log.name}"
        return Sifted(
            log,
            on_progress=lambda done, total: self.emit(
                Progress(task=task, done=done, total=total, unit="characters")
            ),
        )

    def _sample(self, sifted: Sifted, budget: int) -> tuple[Folded, TokenizedText] | None:
        """Sample the lines within a budget of tokens; None if one of each kind is more."""
        characters = budget * _CHARACTERS
        while (found := sifted.within(int(characters))) is not None:
            text = self.prompts.whole(found.document)
            if len(text.ids) <= budget:
                return found, text
            characters *= 0.97 * budget / len(text.ids)
        return None


def _told(found: Folded, kinds: int, name: str, whole: float) -> str:
    first = "the first" if found.each == 1 else f"the first {found.each:,}"
    minutes = round(whole / 60) if math.isfinite(whole) else 0
    time = f", in about {minutes:,} minutes" if minutes > 1 else ""
    return (
        f"{name} is a long log: nsa reads {found.kept:,} of its {found.lines:,} lines, "
        f"{first} of each kind ({kinds:,} kinds; lines of a kind differ only in numbers) and the "
        f"last ones; --every-line reads all{time}"
    )
