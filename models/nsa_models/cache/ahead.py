"""Tokens that were run once and are needed again, such as a question that was first searched for.

Their keys and values stay in the buffers of a cache that is truncated to the tokens before them,
until something else is written there. With dense attention they do not depend on what follows, so
the same tokens fill the cache again without a pass of the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

from nsa_kernels.settings import AttentionSettings
from nsa_models.cache.kv_cache import KVCache
from nsa_models.tokenization.ids import TokenIds


def keep_ahead(cache: KVCache, ids: Sequence[int] | TokenIds, settings: AttentionSettings) -> None:
    """Keep tokens that were just run, from a cache that is truncated to the tokens before them.

    Nothing is kept where attention is sparse, or where a cache holds more than keys and values.

    Args:
        cache: The cache.
        ids: (T,) the tokens.
        settings: With which they were run.
    """
    plain = type(cache) is KVCache and cache.recent is None
    if plain and settings.combine == "union" and settings.covers(cache.length + len(ids)):
        cache.ahead = tuple(int(token) for token in ids)


def take_ahead(cache: KVCache, ids: Sequence[int] | TokenIds, settings: AttentionSettings) -> int:
    """Fill a cache with the first of the next tokens whose keys and values were kept.

    Args:
        cache: The cache, advanced by the tokens that are taken.
        ids: (T,) the next tokens.
        settings: With which they would be run.

    Returns:
        How many were taken.
    """
    ahead, cache.ahead = cache.ahead, ()
    if not settings.covers(cache.length + len(ids)):
        return 0
    pairs = zip(ahead, ids, strict=False)
    count = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    if count:
        cache.advance(count)
    return count
