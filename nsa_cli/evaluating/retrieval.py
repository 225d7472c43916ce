"""Where the evidence ranks among all passages of a text: by the model's look, and by BM25.

A passage is a selection block, so that both rank the very same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nsa_models.errors import UsageError

if TYPE_CHECKING:
    import bm25s

    from nsa_cli.prompt import Text


def block_spans(text: Text, size: int) -> list[tuple[int, int]]:
    """Characters of each selection block; an empty range where there is none of the document.

    Args:
        text: What was read.
        size: Tokens of a block.
    """
    count = -(-len(text.ids) // size)
    spans = [text.span(n * size, min((n + 1) * size, len(text.ids))) for n in range(count)]
    return [span or (0, 0) for span in spans]


def gold_blocks(spans: Sequence[tuple[int, int]], evidence: Sequence[tuple[int, int]]) -> set[int]:
    """The blocks that hold half of an evidence at least, or of which half is evidence.

    Args:
        spans: Characters of each block.
        evidence: Characters.
    """
    gold = set()
    for number, (start, end) in enumerate(spans):
        for first, last in evidence:
            shared = min(end, last) - max(start, first)
            if shared > 0 and 2 * shared >= min(end - start, last - first):
                gold.add(number)
    return gold


def best_rank(scores: Sequence[float], gold: set[int]) -> int | None:
    """The rank, from 1, of the best of some blocks; None where none scores above zero.

    Blocks of the same score share the worst rank among them, so that ties are no help.

    Args:
        scores: Of all blocks.
        gold: Which are right.
    """
    best = max((scores[number] for number in gold), default=0.0)
    if best <= 0:
        return None
    better = sum(score >= best for number, score in enumerate(scores) if number not in gold)
    return better + 1


class Bm25:
    """BM25 over the blocks of one text.

    Args:
        texts: Of the blocks.

    Raises:
        UsageError: If the library is missing.

    Source: Robertson and Zaragoza 2009, "The Probabilistic Relevance Framework: BM25 and Beyond";
    Lù 2024, "BM25S", arXiv 2407.03618.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        library = load_bm25()
        self._library = library
        self._index = library.BM25()
        self._index.index(self._tokens(texts), show_progress=False)

    def scores(self, question: str) -> list[float]:
        """How well each block goes with a question."""
        [words] = self._tokens([question])
        if not words:
            return [0.0] * self._index.scores["num_docs"]
        return [float(score) for score in self._index.get_scores(words)]

    def _tokens(self, texts: Sequence[str]) -> list[list[str]]:
        found: list[list[str]] = self._library.tokenize(
            list(texts), stopwords="en", return_ids=False, show_progress=False
        )
        return found


def load_bm25() -> bm25s:
    """The library for BM25.

    Raises:
        UsageError: If it is missing.
    """
    try:
        import bm25s
    except ImportError as error:
        raise UsageError(
            "--bm25 needs the library bm25s", hint="install it: pip install 'nsa[eval]'"
        ) from error
    return bm25s
