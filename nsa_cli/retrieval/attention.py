"""Attention that a question, or an answer, gives the blocks of a text.

Retrieval heads give a few blocks far more attention for the question than for the instruction
before it. The score is the square of that surplus, summed over layers, heads and the question's
tokens, so that a few strong values count for more than many weak ones.

Letters: L layers, H query heads, T question tokens, N selection blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from nsa_cli.context.tokens import Ids, TokenizedQuestion, TokenizedText
from nsa_cli.retrieval.instruction import InstructionMemory, InstructionPass, separable
from nsa_cli.retrieval.passages import DIRECT_TOKENS, blocks_per
from nsa_kernels.settings import AttentionSettings
from nsa_models.cache.ahead import keep_ahead
from nsa_models.cache.batch import CacheBatch
from nsa_models.cache.kv_cache import KVCache
from nsa_models.cache.mapped import releasing_layers
from nsa_models.modeling.model import NSALanguageModel

BACKGROUND = 2.0
"""Multiple of the instruction's attention that is subtracted as background."""


def question_attention(
    mass: Tensor,
    instruction: int,
    question: int,
    weights: Tensor | None = None,
    background: Tensor | None = None,
) -> Tensor:
    """Surplus attention that a question gives each block: (N,).

    Args:
        mass: (L, H, T, N) attention of the tokens after the text: instruction, question, template.
        instruction: Tokens before the question, the same for every question; the background.
        question: Tokens of the question itself.
        weights: (L, H) weight of each head; all 1 when None.
        background: (L, H, N or fewer) mean attention of the instruction, if `mass` does not begin
            with it.
    """
    if background is None:
        background = mass[:, :, :instruction].mean(dim=2)
        mass = mass[:, :, instruction:]
    background = F.pad(background, (0, mass.shape[-1] - background.shape[-1]))
    asked = mass[:, :, :question]
    surplus = (asked - BACKGROUND * background[:, :, None]).clamp(min=0).square().sum(dim=2)
    if weights is not None:
        surplus = surplus * weights[:, :, None]
    return surplus.sum(dim=(0, 1))


def answer_attention(mass: Tensor) -> Tensor:
    """Squared attention that a token of the answer gives each block: (N,) from (L, H, N)."""
    return mass.square().sum(dim=(0, 1))


def block_scores(
    model: NSALanguageModel,
    caches: Sequence[KVCache],
    texts: Sequence[TokenizedText],
    question: TokenizedQuestion,
    settings: AttentionSettings,
    memories: Sequence[InstructionMemory] = (),
) -> list[Tensor]:
    """Score each block of some texts by a question's attention: (N,) each.

    Blocks without a token of the document score 0. The caches are left as they were, with the
    question ahead. The question's tokens share one selection, so that little of a cache is read.

    Args:
        model: The model.
        caches: The cache of each text; several go through the model as one batch, since a step of
            a few tokens waits for the weights.
        texts: The texts.
        question: The question.
        settings: Attention of the question.
        memories: Keep the pass over the instruction, for each text; none to run it each time.

    Raises:
        CorruptBlockError: If a stored block that is attended to has a wrong checksum.
    """
    lengths, size = [cache.length for cache in caches], model.config.select_block
    last = question.instruction + question.asked
    if sum(text.document_tokens for text in texts) <= DIRECT_TOKENS:
        last = max(last, len(question.ids) - 1)  # the answer follows: see `keep_ahead`
        memories = ()
    if not separable(question, settings, caches):
        memories = ()
    shared = replace(settings, select_tile=size)
    passes: list[InstructionPass] = []
    try:
        with torch.inference_mode(), releasing_layers(caches):
            if memories:
                passes = _instruction_passes(model, caches, question, shared, memories)
            first = question.instruction if passes else 0
            mass = _mass(model, caches, question.ids[first:last], shared)
    finally:  # Ctrl-C in a chat
        for cache, length in zip(caches, lengths, strict=True):
            cache.truncate(length)
    for cache in caches:
        keep_ahead(cache, question.ids[:last], settings)
    found = []
    for row, (text, length) in enumerate(zip(texts, lengths, strict=True)):
        background = passes[row].background if passes else None
        attention = question_attention(
            *(mass[:, row], question.instruction, question.asked),
            *(model.retrieval_head_weights, background),
        )
        scores = attention.cpu()[: -(-length // size)]
        for block in range(len(scores)):
            if text.span(block * size, min((block + 1) * size, length)) is None:
                scores[block] = 0
        found.append(scores)
    return found


def _mass(
    model: NSALanguageModel, caches: Sequence[KVCache], tokens: Ids, settings: AttentionSettings
) -> Tensor:
    """Append tokens (T,) to each cache; return the attention that they give: (L, B, H, T, N)."""
    ids = torch.as_tensor(tokens, dtype=torch.long, device=model.device)
    cache = caches[0] if len(caches) == 1 else CacheBatch(caches)
    output = model(
        ids.expand(len(caches), -1),
        cache=cache,
        settings=settings,
        last_logits=0,
        return_mass=True,
    )
    mass: Tensor = output.mass
    return mass


def _instruction_passes(
    model: NSALanguageModel,
    caches: Sequence[KVCache],
    question: TokenizedQuestion,
    settings: AttentionSettings,
    memories: Sequence[InstructionMemory],
) -> list[InstructionPass]:
    """Append the instruction of a question to each cache; run it where it is not remembered.

    The first question about a text runs it apart, so that later ones have the same scores.
    """
    known = [
        memory.get(question, settings, cache)
        for memory, cache in zip(memories, caches, strict=True)
    ]
    passes = [each for each in known if each is not None]
    if len(passes) == len(known):
        for made, cache in zip(passes, caches, strict=True):
            made.append_to(cache)
        return passes
    lengths = [cache.length for cache in caches]
    size = model.config.select_block
    mass = _mass(model, caches, question.ids[: question.instruction], settings)
    passes = []
    for row, (memory, cache, length) in enumerate(zip(memories, caches, lengths, strict=True)):
        passes.append(InstructionPass.of(cache, length, mass[:, row], size))
        memory.put(question, settings, length, passes[-1])
    return passes


def without_attention_sinks(scores: Tensor, text: TokenizedText, size: int) -> Tensor:
    """Block scores with attention sinks set to zero.

    Heads attend to the first and the last tokens of a context window for any question. A text
    short enough to be answered from directly is left as it is.

    Args:
        scores: (N,), from `block_scores`.
        text: The text.
        size: Tokens of a block.

    Source: Xiao et al. 2023, "Efficient Streaming Language Models with Attention Sinks".
    """
    scores = scores.clone()
    if text.document_tokens > DIRECT_TOKENS:
        per, firsts = blocks_per(size), [start // size for start in text.starts]
        for first, stop in zip(firsts, [*firsts[1:], len(scores)], strict=True):
            scores[first : first + per] = 0
            scores[stop - 2 * per : stop] = 0
    return scores
