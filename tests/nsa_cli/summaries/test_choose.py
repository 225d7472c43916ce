"""The choice of sentences over all parts."""

from __future__ import annotations

from nsa_cli.retrieval.facts import facts_of
from nsa_cli.retrieval.sentences import content_words
from nsa_cli.summaries.candidates import Candidate, Said
from nsa_cli.summaries.choose import choose


def candidate(start: int, text: str, worth: float = 0.5) -> Candidate:
    return Candidate(
        start=start,
        end=start + len(text),
        text=text,
        words=frozenset(content_words(text)),
        facts=tuple(facts_of(text)),
        worth=worth,
    )


RENT = candidate(10, "The tenant pays rent of 1,200 crowns every month.")
TERM = candidate(70, "The lease ends on 31 March 2028 without notice.")
END = candidate(130, "Keys must be returned to the caretaker within 30 days.")
VIEW = candidate(200, "The windows look over the old town and its harbor.", worth=0.9)
DULL = candidate(300, "Visitors are welcome at the gate during the whole day.")


def test_each_part_has_its_best_and_dense_parts_more() -> None:
    chosen = choose([[RENT, TERM, END], [VIEW, DULL]], 40.0, Said())
    assert chosen == [[RENT, TERM, END], [VIEW]]


def test_a_short_summary_has_one_sentence_of_each_part() -> None:
    chosen = choose([[RENT, TERM, END], [VIEW, DULL]], 12.0, Said())
    assert [len(own) for own in chosen] == [1, 1]


def test_nothing_is_said_twice() -> None:
    again = candidate(400, "The windows look over the old town and the harbor.")
    said = Said()
    assert choose([[VIEW], [again, DULL]], 100.0, said) == [[VIEW], [DULL]]
    assert VIEW.words in said.words
    assert choose([[VIEW], [again]], 100.0, Said()) == [[VIEW], []]
    assert choose([[], []], 100.0, Said()) == [[], []]
