"""Summaries from the cache, or by the model. torch is imported only where the model writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from nsa_cli.caches.summaries import SummaryCache
from nsa_cli.config.summary_length import SummaryRequest
from nsa_cli.documents import digest
from nsa_cli.documents.sources import Source
from nsa_cli.engine.engine import Engine
from nsa_cli.engine.parse import contents_of
from nsa_cli.results import DocumentSummary
from nsa_cli.summaries.prompts import prompts_of


def summarize_once(engine: Engine, source: Source, request: SummaryRequest) -> DocumentSummary:
    """Summarize one source, unless the same bytes were summarized so before.

    Raises:
        NsaError: If the source cannot be read, or does not fit the model or the memory.
    """
    content = digest([source])
    found = _recalled(engine, content, source.name, request)
    if found is not None:
        return found
    from nsa_cli.summaries.make import open_for_summary, summarize_document

    opened = open_for_summary(engine, [source], source.name, request.focus, content)
    made = summarize_document(opened, request)
    cache = _cache(engine, content, source.name, request)
    cache.keep(made, [source.name], contents_of([source]))
    return made


def summarize_all_once(
    engine: Engine,
    name: str,
    sources: Sequence[Source],
    made: Sequence[DocumentSummary],
    request: SummaryRequest,
) -> DocumentSummary:
    """Summarize the summaries of several sources in one paragraph, unless it was written before.

    Args:
        engine: The engine.
        name: Name of all sources together.
        sources: The sources.
        made: Their summaries, in the same order.
        request: What is wanted.

    Raises:
        NsaError: If the last source does not fit the model or the memory.
    """
    found = _recalled(engine, digest(sources), name, request)
    if found is not None:
        return found
    from nsa_cli.summaries.make import open_for_summary
    from nsa_cli.summaries.overview import overview

    opened = engine.opened
    if opened is None:  # the last file could not be read, or all were summarized before
        opened = open_for_summary(engine, sources[-1:], sources[-1].name, request.focus)
    told = [sentence for document in made for sentence in document.overview]
    whole = DocumentSummary(
        source=name,
        overview=overview(opened, told, request.length, request.focus),
        statements=(),
        document_tokens=sum(each.document_tokens for each in made),
        reused_tokens=sum(each.reused_tokens for each in made),
    )
    cache = _cache(engine, digest(sources), name, request)
    cache.keep(whole, [source.name for source in sources], contents_of(sources))
    return whole


def _recalled(
    engine: Engine, content: bytes, name: str, request: SummaryRequest
) -> DocumentSummary | None:
    """Return a summary that was made before; a model that is fetched anew has made none."""
    return _cache(engine, content, name, request).recall() if engine.is_ready else None


def _cache(engine: Engine, content: bytes, name: str, request: SummaryRequest) -> SummaryCache:
    asked = {**asdict(request), "prompts": prompts_of(request)}
    return SummaryCache(content, name, asked, engine.answers_with, engine.options)
