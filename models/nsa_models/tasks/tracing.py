"""Chains of variables, and entries to count over the whole text.

Source: RULER, Hsieh et al. 2024, arXiv 2404.06654 (variable tracking, common words extraction),
with this project's sentences, names and questions.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import partial

from nsa_models.tasks.example import CHARACTERS_PER_TOKEN, Example, Split, fill, hide
from nsa_models.tasks.words import keys, values, words

_CHAINS: dict[Split, tuple[tuple[str, str, str, str], ...]] = {
    "train": (
        (
            "Register {new} is loaded with {value}.",
            "Register {new} is copied from register {old}.",
            "Which registers hold the value {value}? Name all of them.",
            "Which value does register {new} hold?",
        ),
        (
            "Account {new} was opened with the token {value}.",
            "Account {new} took over the token of account {old}.",
            "Which accounts have the token {value}? Name all of them.",
            "Which token does account {new} have?",
        ),
        (
            "Valve {new} is set to level {value}.",
            "Valve {new} follows the level of valve {old}.",
            "Which valves are at level {value}? Name all of them.",
            "At which level is valve {new}?",
        ),
    ),
    "eval": (
        (
            "The variable {new} is assigned {value}.",
            "The variable {new} is assigned the value of {old}.",
            "Which variables have the value {value}? List all of them.",
            "What is the value of the variable {new}?",
        ),
        (
            "Lamp {new} burns at setting {value}.",
            "Lamp {new} burns at the same setting as lamp {old}.",
            "Which lamps burn at setting {value}? List all of them.",
            "At which setting does lamp {new} burn?",
        ),
    ),
}
"""Sentences that set and copy a value; questions for all variables with it, and for the value."""

_TALLIES: dict[Split, tuple[tuple[tuple[str, ...], str, str], ...]] = {
    "train": (
        (
            (
                "A crate of {item} was unloaded at the quay.",
                "At the quay a crate of {item} came ashore.",
            ),
            "Which {count} goods were unloaded at the quay most often?",
            "How many crates of {item} were unloaded at the quay?",
        ),
        (
            ("The market sold a basket of {item}.", "A basket of {item} was sold at the market."),
            "Name the {count} goods of which the market sold the most baskets.",
            "How many baskets of {item} did the market sell?",
        ),
    ),
    "eval": (
        (
            ("The clerk entered a sack of {item}.", "A sack of {item} was entered by the clerk."),
            "Which {count} goods did the clerk enter most often?",
            "How many sacks of {item} did the clerk enter?",
        ),
        (
            ("The caravan brought a load of {item}.", "A load of {item} came with the caravan."),
            "Of which {count} goods did the caravan bring the most loads?",
            "How many loads of {item} did the caravan bring?",
        ),
    ),
}
"""Sentences of one entry; the question for the most frequent kinds; the question for a count."""

_NUMBERS = ("", "one", "two", "three", "four", "five")


def variable_tracking(
    haystack: Sequence[str],
    *,
    tokens: int,
    seed: int,
    split: Split,
    chains: int = 2,
    hops: int = 4,
    characters_per_token: float = CHARACTERS_PER_TOKEN,
) -> tuple[Example, ...]:
    """Hide chains of variables, each a copy of the previous one, in order.

    Args:
        haystack: Sentences or paragraphs to hide them in, in order.
        tokens: Approximate length of the text in tokens.
        seed: The same seed gives the same examples.
        split: Split of words and sentences.
        chains: Number of chains.
        hops: Copies per chain.
        characters_per_token: Ratio of the tokenizer in the haystack's language.

    Returns:
        Two examples per chain, with the same context: all variables with its value, and the value
        of its last variable.
    """
    rng = random.Random(f"variables {seed} {split}")
    sets, copies, asks_all, asks = rng.choice(_CHAINS[split])
    length = hops + 1
    text = fill(haystack, int(tokens * characters_per_token) - 60 * chains * length, rng)
    names = keys("code", chains * length, split, rng)
    chain_values = values("number", chains, split, rng, outside=text)
    order = [chain for chain in range(chains) for _ in range(length)]
    rng.shuffle(order)
    chain_places: list[list[int]] = [[] for _ in range(chains)]
    sentences = []
    for place, chain in enumerate(order):
        form = copies if chain_places[chain] else sets
        old = names[chain_places[chain][-1]] if chain_places[chain] else ""
        sentences.append(form.format(new=names[place], old=old, value=chain_values[chain]))
        chain_places[chain].append(place)
    context, spans = hide(text, sentences, sorted(rng.random() for _ in sentences))
    examples = []
    for chain, places in enumerate(chain_places):
        evidence = tuple(spans[place] for place in places)
        make = partial(Example, context=context, evidence=evidence, task="variables")
        answers = tuple(names[place] for place in places)
        examples += [
            make(question=asks_all.format(value=chain_values[chain]), answers=answers, every=True),
            make(question=asks.format(new=names[places[-1]]), answers=(chain_values[chain],)),
        ]
    return tuple(examples)


def aggregation(
    haystack: Sequence[str],
    *,
    tokens: int,
    seed: int,
    split: Split,
    top: int = 3,
    kinds: int = 10,
    characters_per_token: float = CHARACTERS_PER_TOKEN,
) -> tuple[Example, ...]:
    """Spread entries over the text, a few kinds of which are more frequent than the others.

    Entries are about 150 tokens apart. Each frequent kind has at least three times as many
    entries as each other kind.

    Args:
        haystack: Sentences or paragraphs to hide them in, in order.
        tokens: Approximate length of the text in tokens.
        seed: The same seed gives the same examples.
        split: Split of words and sentences.
        top: Number of frequent kinds, from 1 to 5.
        kinds: Number of all kinds.
        characters_per_token: Ratio of the tokenizer in the haystack's language.

    Returns:
        Two examples with the same context: the frequent kinds, and the count of one of them.
    """
    rng = random.Random(f"aggregation {seed} {split}")
    says, asks_top, asks_count = rng.choice(_TALLIES[split])
    items = rng.sample(words("goods", split), kinds)
    shares = max(1, tokens // 150 // (3 * top + kinds - top))
    counts = [3 * shares + rng.randrange(2) for _ in range(top)]
    counts += [max(1, shares - rng.randrange(2)) for _ in range(kinds - top)]
    entries = [item for item, count in zip(items, counts, strict=True) for _ in range(count)]
    rng.shuffle(entries)
    sentences = [rng.choice(says).format(item=item) for item in entries]
    characters = int(tokens * characters_per_token) - sum(len(x) + 1 for x in sentences)
    text = fill(haystack, max(1, characters), rng)
    context, spans = hide(text, sentences, sorted(rng.random() for _ in sentences))
    common = items[:top]
    kind = rng.choice(common)
    return (
        Example(
            context=context,
            question=asks_top.format(count=_NUMBERS[top]),
            answers=tuple(common),
            every=True,
            evidence=tuple(
                span for span, item in zip(spans, entries, strict=True) if item in common
            ),
            task="aggregation",
        ),
        Example(
            context=context,
            question=asks_count.format(item=kind),
            answers=(str(entries.count(kind)),),
            evidence=tuple(span for span, item in zip(spans, entries, strict=True) if item == kind),
            task="aggregation",
        ),
    )
