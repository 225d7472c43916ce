"""Needles in a haystack: one, many similar ones, and keys with several values.

Source: Kamradt 2023, "Needle in a Haystack". The tasks with many keys and with several values
follow RULER, Hsieh et al. 2024, arXiv 2404.06654, with this project's sentences and names.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from nsa_models.tasks.example import CHARACTERS_PER_TOKEN, Example, Split, fill, hide
from nsa_models.tasks.facts import facts
from nsa_models.tasks.words import keys, values


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


def needle(
    haystack: Sequence[str],
    *,
    tokens: int,
    seed: int,
    split: Split,
    depth: float | None = None,
    characters_per_token: float = CHARACTERS_PER_TOKEN,
) -> tuple[Example, ...]:
    """Hide one fact in an unrelated text.

    Args:
        haystack: Sentences or paragraphs to hide it in, in order.
        tokens: Approximate length of the text in tokens.
        seed: The same seed gives the same example.
        split: Split of words and sentences.
        depth: Position, from 0 to 1; random when None.
        characters_per_token: Ratio of the tokenizer in the haystack's language.

    Returns:
        One example.
    """
    rng = random.Random(f"needle {seed} {split}")
    fact = rng.choice(facts(split))
    place = rng.random() if depth is None else depth
    text = fill(haystack, int(tokens * characters_per_token) - 80, rng)
    key = keys(fact.key, 1, split, rng)[0]
    value = values(fact.value, 1, split, rng, outside=f"{text}\n{key}")[0]
    sentence = _capital(rng.choice(fact.says).format(key=key, value=value))
    context, spans = hide(text, [sentence], [place])
    return (
        Example(
            context=context,
            question=rng.choice(fact.asks).format(key=key),
            answers=(value,),
            evidence=(spans[0],),
            task="needle",
        ),
    )


def similar_needles(
    haystack: Sequence[str],
    *,
    tokens: int,
    seed: int,
    split: Split,
    count: int = 24,
    characters_per_token: float = CHARACTERS_PER_TOKEN,
) -> tuple[Example, ...]:
    """Hide many facts of one template, with a question for each.

    Args:
        haystack: Sentences or paragraphs to hide them in, in order.
        tokens: Approximate length of the text in tokens.
        seed: The same seed gives the same examples.
        split: Split of words and sentences.
        count: Number of facts.
        characters_per_token: Ratio of the tokenizer in the haystack's language.

    Returns:
        One example per fact, with the same context, in the order of the text.
    """
    rng = random.Random(f"similar {seed} {split}")
    fact = rng.choice(facts(split))
    text = fill(haystack, int(tokens * characters_per_token) - 80 * count, rng)
    names = keys(fact.key, count, split, rng)
    fact_values = values(fact.value, count, split, rng, outside="\n".join([text, *names]))
    says = rng.choice(fact.says)
    sentences = [
        _capital(says.format(key=key, value=value))
        for key, value in zip(names, fact_values, strict=True)
    ]
    context, spans = hide(text, sentences, sorted(rng.random() for _ in sentences))
    return tuple(
        Example(
            context=context,
            question=rng.choice(fact.asks).format(key=key),
            answers=(value,),
            evidence=(span,),
            task="similar",
        )
        for key, value, span in zip(names, fact_values, spans, strict=True)
    )


def several_values(
    haystack: Sequence[str],
    *,
    tokens: int,
    seed: int,
    split: Split,
    count: int = 4,
    each: int = 4,
    characters_per_token: float = CHARACTERS_PER_TOKEN,
) -> tuple[Example, ...]:
    """Hide keys with several values each, with a question for all values of a key.

    Args:
        haystack: Sentences or paragraphs to hide them in, in order.
        tokens: Approximate length of the text in tokens.
        seed: The same seed gives the same examples.
        split: Split of words and sentences.
        count: Number of keys.
        each: Values per key.
        characters_per_token: Ratio of the tokenizer in the haystack's language.

    Returns:
        One example per key, with the same context; answers are in the order of the text.
    """
    rng = random.Random(f"values {seed} {split}")
    fact = rng.choice(facts(split))
    text = fill(haystack, int(tokens * characters_per_token) - 80 * count * each, rng)
    names = keys(fact.key, count, split, rng)
    fact_values = values(fact.value, count * each, split, rng, outside="\n".join([text, *names]))
    owners = [key for key in names for _ in range(each)]
    order = rng.sample(range(len(fact_values)), len(fact_values))
    sentences = [
        _capital(rng.choice(fact.says).format(key=owners[number], value=fact_values[number]))
        for number in order
    ]
    context, spans = hide(text, sentences, sorted(rng.random() for _ in sentences))
    examples = []
    for key in names:
        places = [place for place, number in enumerate(order) if owners[number] == key]
        examples.append(
            Example(
                context=context,
                question=rng.choice(fact.asks_all).format(key=key),
                answers=tuple(fact_values[order[place]] for place in places),
                every=True,
                evidence=tuple(spans[place] for place in places),
                task="values",
            )
        )
    return tuple(examples)
