"""Variables and entries: the answers are computed again from the text."""

from __future__ import annotations

import re
from collections import Counter
from typing import Literal

import pytest

from nsa_models.tasks import aggregation, variable_tracking
from nsa_models.tasks.haystack import documentation
from nsa_models.tasks.words import words

Split = Literal["train", "eval"]
HAYSTACK = documentation(30_000, seed=2)


@pytest.mark.parametrize("split", ["train", "eval"])
def test_answers_follow_from_the_chains(split: Split, seed: int) -> None:
    examples = variable_tracking(HAYSTACK, tokens=2500, seed=seed, split=split, chains=3, hops=4)
    assert len(examples) == 6
    value: dict[str, str] = {}
    spans = sorted({span for example in examples for span in example.evidence})
    assert len(spans) == 3 * 5
    for start, end in spans:
        sentence = examples[0].context[start:end]
        new, *old = re.findall(r"\b[A-Z]\d{3}\b", sentence)
        value[new] = value[old[0]] if old else re.findall(r"\d{5,7}", sentence)[0]
    for example in examples:
        if example.every:
            number = re.findall(r"\d{5,7}", example.question)[0]
            assert set(example.answers) == {name for name in value if value[name] == number}
            assert len(example.answers) == 5
        else:
            name = re.findall(r"\b[A-Z]\d{3}\b", example.question)[0]
            assert example.answers == (value[name],)


@pytest.mark.parametrize("split", ["train", "eval"])
@pytest.mark.parametrize("tokens", [2500, 12_000])
def test_answers_follow_from_the_entries(split: Split, tokens: int, seed: int) -> None:
    top, number = aggregation(HAYSTACK, tokens=tokens, seed=seed, split=split, top=3)
    entries = re.compile(
        r"(?:crate|basket|sack|load) of ({})\b".format("|".join(words("goods", split)))
    )
    counts = Counter(entries.findall(top.context))
    best = [item for item, _ in counts.most_common(3)]
    assert set(top.answers) == set(best)
    fourth = counts.most_common(4)[3][1]
    assert all(counts[item] >= 3 * fourth for item in best)
    assert sum(counts[item] for item in best) == len(top.evidence)
    [item] = [item for item in best if re.search(rf"\b{item}\b", number.question)]
    assert number.answers == (str(counts[item]),)
    assert len(number.evidence) == counts[item]


def test_more_text_has_more_entries() -> None:
    few, many = (
        aggregation(HAYSTACK, tokens=tokens, seed=0, split="eval")[0] for tokens in (3000, 30_000)
    )
    assert len(many.evidence) > 4 * len(few.evidence)
