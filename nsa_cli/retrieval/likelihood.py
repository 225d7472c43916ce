"""Pages ranked by the likelihood of the question: a page that answers it makes it likely.

Letters: P pages, T tokens of the question, V vocabulary.

Source: Sachan et al. 2022, "Improving Passage Retrieval with Zero-Shot Question Generation",
arXiv 2204.07496; here a page is not prefilled again, the question attends to its kept keys.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nsa_cli.context.tokens import TokenizedQuestion
from nsa_kernels.settings import AttentionSettings
from nsa_models.cache.batch import CacheBatch
from nsa_models.cache.kv_cache import KVCache
from nsa_models.modeling.model import NSALanguageModel

_LIKELIHOOD_WEIGHT = 2.0
"""Weight of the likelihood beside attention and BM25, each scaled to unit deviation."""


def question_likelihoods(
    model: NSALanguageModel,
    caches: Sequence[KVCache],
    question: TokenizedQuestion,
    settings: AttentionSettings,
) -> Tensor:
    """Return the mean log-likelihood of the question's tokens after each page: (P,).

    Args:
        model: The model.
        caches: The cache of each page, from `join_excerpts`, with room for the question.
        question: The question, with its instruction.
        settings: Attention of the question.
    """
    ids = torch.as_tensor(question.ids, dtype=torch.long, device=model.device)
    ids = ids[: question.instruction + question.asked]
    asked = ids[question.instruction :]
    with torch.inference_mode():
        x, _ = model.hidden_states(ids.expand(len(caches), -1), CacheBatch(caches), settings)
        # Logits of one page at a time: those of all take gigabytes.
        x = x[:, question.instruction - 1 : -1]
        found = [model.logits(row[None])[0].float().log_softmax(dim=-1) for row in x]
        means = [row.gather(1, asked[:, None]).mean() for row in found]
    return torch.stack(means).cpu()


def rank_pages(
    attention: Tensor, words: Tensor, likelihoods: Tensor, candidates: Tensor
) -> list[int]:
    """Rank pages, best first: candidates by all three measures, then the others by two.

    Args:
        attention: (P,) best block score of each page.
        words: (P,) BM25 of each page.
        likelihoods: (C,) of the candidates.
        candidates: (C,) their indices.
    """
    both = _scaled(attention) + _scaled(words)
    final = both[candidates] + _LIKELIHOOD_WEIGHT * _scaled(likelihoods)
    first = candidates[final.argsort(descending=True, stable=True)].tolist()
    others = both.argsort(descending=True, stable=True).tolist()
    return [*first, *(page for page in others if page not in set(first))]


def page_candidates(attention: Tensor, words: Tensor, count: int) -> Tensor:
    """Return the indices of the best pages by attention and by BM25, half each: (C,)."""
    best: list[int] = []
    orders = [x.argsort(descending=True, stable=True).tolist() for x in (attention, words)]
    for pair in zip(*orders, strict=True):
        best += [page for page in dict.fromkeys(pair) if page not in best]
        if len(best) >= count:
            break
    return torch.tensor(best[:count], dtype=torch.long)


def _scaled(x: Tensor) -> Tensor:
    """Scale to mean 0 and deviation 1."""
    centered = x - x.mean()
    return centered / centered.square().mean().sqrt().clamp(min=1e-6)
