"""Long texts of facts that are stated once and repeated later, for models trained from scratch.

A small model that has seen few tokens does not understand questions. It learns that a fact is
stated again in the same words, so that its answer must come from the text. A text has natural
lines as noise. The same seed gives the same text.

needle       one fact, repeated at the end
similar      many facts about different things
values       things with three values each, repeated as a list
latest       things with changing values; the last one holds
variables    names that take their value from another name
copying      lists of words
aggregation  entries, one kind of which is the most frequent

Letters: T tokens.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from nsa_models.tasks.words import words

Encode = Callable[[str], Sequence[int]]
Part = tuple[str, bool]
"""A part of a line, and whether it is an answer."""

Line = tuple[Part, ...]
Encoded = list[tuple[Sequence[int], bool]]
"""A line as parts of token ids."""

_NEAREST = 32
"""Tokens of the least distance between the lines of a fact in a text for training."""

_LIST_WORDS = 16
_ENTRIES = 15
_KINDS = 6
_UPDATES = 3
_HOPS = 2


@dataclass(frozen=True, slots=True)
class Fact:
    """Lines that state a fact, in order, and the line that repeats it.

    Attributes:
        says: The statements.
        again: The repetition, with the answers.
        chance: Probability of a right answer by a guess among the values that the text has.
    """

    says: tuple[Line, ...]
    again: Line
    chance: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RecallText:
    """A text with answers.

    Attributes:
        ids: (T,) token ids.
        answers: Half-open ranges of positions of the answers' tokens.
        chance: Mean probability of a right answer by a guess.
    """

    ids: npt.NDArray[np.int64]
    answers: tuple[tuple[int, int], ...]
    chance: float


@cache
def _all(kind: str) -> tuple[str, ...]:
    return (*words(kind, "train"), *words(kind, "eval"))


@cache
def _values() -> tuple[str, ...]:
    return tuple(sorted({*_all("animal"), *_all("goods")}))


def _pairs(first: str, second: str) -> list[str]:
    return [f"{a} {b}" for a in _all(first) for b in _all(second)]


class _Names:
    """Distinct things, places and names of one text."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self._things = self._shuffled(
            [f"{a} {b}" for a in _all("adjective") for b in _all("thing")]
        )
        self._people = self._shuffled([f"{a} {b}" for a in _all("first") for b in _all("last")])
        self._places = self._shuffled(list(_all("place")))

    def _shuffled(self, names: list[str]) -> list[str]:
        self.rng.shuffle(names)
        return names

    def thing(self) -> str:
        return self._things.pop()

    def person(self) -> str:
        return self._people.pop()

    def place(self) -> str:
        return self._places.pop()

    @property
    def has_places(self) -> bool:
        return bool(self._places)

    def values(self, count: int) -> list[str]:
        return self.rng.sample(_values(), count)


def _plain(text: str) -> Line:
    return ((f"{text}\n", False),)


def _asked(text: str, answers: Sequence[str], between: str = ",") -> Line:
    """Return a line that ends with answers."""
    parts: list[Part] = [(text, False)]
    for number, answer in enumerate(answers):
        parts += [(between, False)] * bool(number) + [(f" {answer}", True)]
    return (*parts, (".\n", False))


def _similar(names: _Names, count: int) -> list[Fact]:
    """Facts about different things."""
    facts = []
    for _ in range(count):
        thing, (value,) = names.thing(), names.values(1)
        text = f"The sign of the {thing} is"
        facts.append(Fact((_plain(f"{text} {value}."),), _asked(text, [value]), 1 / count))
    return facts


def _needle(names: _Names, count: int) -> list[Fact]:
    """Facts as in `similar`; a guess knows all values but not the text."""
    return [Fact(x.says, x.again, 1 / len(_values())) for x in _similar(names, count)]


def _several(names: _Names, count: int) -> list[Fact]:
    """Things with several values."""
    facts = []
    for _ in range(count):
        thing, values = names.thing(), names.values(_UPDATES)
        says = tuple(_plain(f"Inside the {thing} was one {value}.") for value in values)
        again = _asked(f"All inside the {thing}:", values)
        facts.append(Fact(says, again, 1 / (_UPDATES * count)))
    return facts


def _latest(names: _Names, count: int) -> list[Fact]:
    """Things with changing values."""
    facts = []
    for _ in range(count):
        thing, values = names.thing(), names.values(_UPDATES)
        says = tuple(_plain(f"Now the {thing} belongs to the {value}.") for value in values)
        again = _asked(f"At last the {thing} belongs to the", values[-1:])
        facts.append(Fact(says, again, 1 / _UPDATES))
    return facts


def _variables(names: _Names, count: int) -> list[Fact]:
    """Chains of names with one value."""
    facts = []
    for value in names.values(count):
        chain = [names.person() for _ in range(_HOPS + 1)]
        says = [_plain(f"{chain[0]} picks the {value}.")]
        says += [_plain(f"{b} picks the same as {a}.") for a, b in pairwise(chain)]
        again = _asked(f"So {chain[-1]} has the", [value])
        facts.append(Fact(tuple(says), again, 1 / count))
    return facts


def _copying(names: _Names, count: int) -> list[Fact]:
    """Lists of words."""
    facts = []
    for _ in range(count):
        person, values = names.person(), names.values(_LIST_WORDS)
        text = f"The list of {person}:"
        says = (_plain(f"{text} {' '.join(values)}."),)
        facts.append(Fact(says, _asked(text, values, ""), 1 / _LIST_WORDS))
    return facts


def _aggregation(names: _Names, count: int) -> list[Fact]:
    """Entries of several kinds, most of one kind."""
    facts = []
    for _ in range(count if names.has_places else 0):
        place, kinds = names.place(), names.values(_KINDS)
        entries = [kinds[0]] * (_ENTRIES // 2) + kinds[1:]
        entries += names.rng.choices(kinds[1:], k=_ENTRIES - len(entries))
        names.rng.shuffle(entries)
        says = tuple(_plain(f"{place} got a crate of {item}.") for item in entries)
        again = _asked(f"{place} got most crates of", kinds[:1])
        facts.append(Fact(says, again, 1 / _KINDS))
    return facts


_MAKERS: dict[str, tuple[Callable[[_Names, int], list[Fact]], int]] = {
    "needle": (_needle, 1),
    "similar": (_similar, 24),
    "values": (_several, 8),
    "latest": (_latest, 8),
    "variables": (_variables, 4),
    "copying": (_copying, 2),
    "aggregation": (_aggregation, 3),
}
"""How the facts of a task are made, and their number in a text of the evaluation."""

RECALL_TASKS = tuple(_MAKERS)


def recall_text(
    task: str,
    noise: Sequence[Sequence[int]],
    encode: Encode,
    *,
    tokens: int,
    seed: int,
    depth: float | None = None,
) -> RecallText:
    """Return a text of one task, whose repetitions are at its end.

    Args:
        task: One of `RECALL_TASKS`.
        noise: Token ids of natural lines, in order.
        encode: Returns the token ids of a part of a line.
        tokens: T.
        seed: The same seed gives the same text.
        depth: Position of the first statement, from 0 to 1; random when None.

    Raises:
        ValueError: If the task is unknown or the facts do not fit.
    """
    if task not in _MAKERS:
        raise ValueError(f"task is {task!r}; valid are {', '.join(_MAKERS)}")
    rng = random.Random(f"recall {task} {tokens} {seed} {depth}")
    make, count = _MAKERS[task]
    facts = make(_Names(rng), count)
    placed: list[tuple[float, Line]] = []
    for fact in facts:
        places = sorted(rng.random() for _ in fact.says)
        if depth is not None:
            places[0] = depth
        placed += zip(places, fact.says, strict=True)
    rng.shuffle(facts)
    placed += [(2.0, fact.again) for fact in facts]
    chance = sum(fact.chance for fact in facts) / len(facts)
    lines = [(place, _encoded(line, encode)) for place, line in placed]
    return _joined(lines, noise, tokens, rng, chance)


def recall_training_text(
    noise: Sequence[Sequence[int]], encode: Encode, *, tokens: int, seed: int
) -> RecallText:
    """Return a text of several tasks, whose repetitions follow the statements at any distance.

    Facts take from two to seven tenths of the text. Natural lines that are stated twice take up to
    three tenths more: a model learns to continue a repeated line before it learns to recall a fact
    by its name. Distances are even on a logarithmic scale: near repetitions, with few facts
    between, are learned first.

    Args:
        noise: Token ids of natural lines, in order.
        encode: Returns the token ids of a part of a line.
        tokens: T.
        seed: The same seed gives the same text. It shares no text with `recall_text`.
    """
    rng = random.Random(f"recall training {seed}")
    names = _Names(rng)
    tasks = rng.sample(RECALL_TASKS[1:], rng.randint(2, 4))
    rooms = [tokens * rng.uniform(0.2, 0.7), tokens * rng.uniform(0.0, 0.3)]
    sources = [_endless_facts(names, tasks, encode), _endless_lines(noise, rng)]
    used = 0
    placed: list[tuple[float, Encoded]] = []
    for room, source in zip(rooms, sources, strict=True):
        limit = min(used + room, 0.8 * tokens)
        for group in source:
            cost = sum(len(ids) for line in group for ids, _ in line)
            if used + cost > limit:
                break
            used += cost
            placed += zip(_spread(len(group), _NEAREST / tokens, rng), group, strict=True)
    return _joined(placed, noise, tokens, rng, 0.0)


def _endless_facts(names: _Names, tasks: list[str], encode: Encode) -> Iterator[list[Encoded]]:
    """Facts of some tasks: the lines of each, the repetition last."""
    while True:
        for fact in _MAKERS[names.rng.choice(tasks)][0](names, 1):
            yield [_encoded(line, encode) for line in (*fact.says, fact.again)]


def _endless_lines(noise: Sequence[Sequence[int]], rng: random.Random) -> Iterator[list[Encoded]]:
    """Natural lines, each twice."""
    while True:
        yield [[(rng.choice(noise), False)]] * 2


def _encoded(line: Line, encode: Encode) -> Encoded:
    return [(encode(text), asked) for text, asked in line]


def _spread(count: int, nearest: float, rng: random.Random) -> list[float]:
    """Return ascending places from 0 to 1 whose distances are log-uniform from `nearest` on."""
    gaps = [nearest ** rng.random() for _ in range(count - 1)]
    if (total := sum(gaps)) > 1.0:
        gaps = [gap * rng.random() / total for gap in gaps]
    first = rng.random() * (1.0 - sum(gaps))
    return [first, *(first + sum(gaps[: n + 1]) for n in range(count - 1))]


def _joined(
    placed: Sequence[tuple[float, Encoded]],
    noise: Sequence[Sequence[int]],
    tokens: int,
    rng: random.Random,
    chance: float,
) -> RecallText:
    """Put lines at their places, from 0 to 1, into so much noise that T tokens result.

    Raises:
        ValueError: If the lines alone have more tokens.
    """
    lines = sorted(placed, key=lambda each: each[0])
    room = tokens - sum(len(ids) for _, line in lines for ids, _ in line)
    if room < 0:
        raise ValueError(f"the facts have {tokens - room:,} tokens, more than {tokens:,}")
    ids: list[int] = []
    answers: list[tuple[int, int]] = []
    spent, at = 0, rng.randrange(len(noise))
    for place, line in [*lines, (3.0, [])]:
        while spent < min(1.0, place) * room:
            part = noise[at % len(noise)][spent - room :]  # the last one loses its beginning
            ids += part
            spent, at = spent + len(part), at + 1
        for part, asked in line:
            if asked:
                answers.append((len(ids), len(ids) + len(part)))
            ids += part
    return RecallText(ids=np.array(ids, np.int64), answers=tuple(answers), chance=chance)
