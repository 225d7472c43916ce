"""Where in the text a question draws the model's attention.

Heads that fetch what a question asks for give a few blocks far more attention than the words
around the question do. The measure is the square of that surplus, summed over layers, heads and
the question's tokens, so that few strong looks count for more than many faint ones.

Letters: L layers, H query heads, T question tokens, N selection blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from nsa_cli.context.tokens import Question, Text
from nsa_cli.retrieval.passages import CLOSE_TOKENS, blocks_per
from nsa_models.cache.kv_cache import KVCache, SideBySide
from nsa_models.modeling.model import NSALanguageModel

BACKGROUND = 2.0
"""How many times the attention of the instruction's tokens counts as ordinary."""


def question_evidence(
    mass: Tensor, instruction: int, question: int, weights: Tensor | None = None
) -> Tensor:
    """Surplus attention that a question gives each block: (N,).

    Args:
        mass: (L, H, T, N) of the tokens after the text: instruction, question, template.
        instruction: Tokens before the question, the same for any question; the background.
        question: Tokens of the question itself.
        weights: (L, H) how much each head counts; all alike when None.
    """
    ordinary = mass[:, :, :instruction].mean(dim=2, keepdim=True)
    asked = mass[:, :, instruction : instruction + question]
    surplus = (asked - BACKGROUND * ordinary).clamp(min=0).square().sum(dim=2)
    if weights is not None:
        surplus = surplus * weights[:, :, None]
    return surplus.sum(dim=(0, 1))


def answer_evidence(mass: Tensor) -> Tensor:
    """Attention that a token of the answer gives each block, squared: (N,) of (L, H, N)."""
    return mass.square().sum(dim=(0, 1))


def block_scores(
    model: NSALanguageModel, caches: Sequence[KVCache], texts: Sequence[Text], asked: Question
) -> list[Tensor]:
    """How much attention a question gives each block of some texts: (N,) each.

    Blocks without a token of the document have none. The caches are left as they were. The
    question's tokens share a selection, so that little of a cache is touched.

    Args:
        model: The model.
        caches: Of each text; several are gone through side by side, since a step of a few tokens
            waits for the weights.
        texts: What was read.
        asked: The question.

    Raises:
        DamagedError: If a block of a kept reading that is attended to is damaged.
    """
    lengths, size = [cache.length for cache in caches], model.config.select_block
    ids = torch.as_tensor(asked.ids, dtype=torch.long, device=model.device)
    ids = ids[: asked.instruction + asked.asked]
    try:
        with torch.inference_mode():
            output = model(
                ids.expand(len(caches), -1),
                cache=caches[0] if len(caches) == 1 else SideBySide(caches),
                settings=replace(model.config.answering(), select_tile=size),
                last_logits=0,
                return_mass=True,
            )
    finally:  # Ctrl-C in a chat
        for cache, length in zip(caches, lengths, strict=True):
            cache.truncate(length)
    found = []
    for row, (text, length) in enumerate(zip(texts, lengths, strict=True)):
        mass = output.mass[:, row]
        evidence = question_evidence(mass, asked.instruction, asked.asked, model.evidence)
        scores = evidence.cpu()[: -(-length // size)]
        for block in range(len(scores)):
            if text.span(block * size, min((block + 1) * size, length)) is None:
                scores[block] = 0
        found.append(scores)
    return found


def rested(scores: Tensor, text: Text, size: int) -> Tensor:
    """Scores of blocks without those on which attention rests whatever is asked.

    Heads rest on the first tokens and on the last ones of what was read, so that attention there
    tells nothing; a text that is answered from directly has none.

    Args:
        scores: (N,), from `block_scores`.
        text: What was read.
        size: Tokens of a block.
    """
    scores = scores.clone()
    if text.document_tokens > CLOSE_TOKENS:
        per, firsts = blocks_per(size), [start // size for start in text.starts]
        for first, stop in zip(firsts, [*firsts[1:], len(scores)], strict=True):
            scores[first : first + per] = 0
            scores[stop - 2 * per : stop] = 0
    return scores
