"""Ways to summarize a document with the same model, each asked for as many words.

nsa         what `nsa summarize` does
beginning   the first 4,096 tokens in the prompt, dense attention
map-reduce  each 2,048 tokens summarized, then these summaries, dense attention

The baselines write in the model's own chat template, without the instructions of `nsa`. They have
no citations, so each of their sentences is cited after the fact: with the best of the eight chunks
of 200 words that BM25 finds for it in the whole document.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence, Sized
from dataclasses import dataclass
from typing import Protocol

import torch

from nsa_cli.config.summary_length import SummaryLength, SummaryRequest
from nsa_cli.documents import Document
from nsa_cli.engine.engine import Engine
from nsa_cli.engine.generate import GenerationOptions
from nsa_cli.engine.plain import plain_steps
from nsa_cli.evaluation.document_suite.excerpts import Chunks
from nsa_cli.evaluation.summary_suite.rows import RowSentence
from nsa_cli.events import Emit, drain
from nsa_cli.results import Statement
from nsa_cli.retrieval.citations import cite
from nsa_cli.retrieval.sentences import sentences
from nsa_cli.summaries.checks import sentences_of
from nsa_cli.summaries.make import summarize_document, summary_room
from nsa_models.cache.layer_devices import pick_device

BEGINNING_TOKENS = 4096
CHUNK_TOKENS = 2048
CHUNK_WORDS = 100
"""Words that the summary of a chunk is asked to have."""

_TOKENS_PER_WORD = 1.6
_TOKENS_MORE = 32


class _HasTokens(Protocol):
    def encode(self, text: str) -> Sized:
        """Return token ids."""


@dataclass(kw_only=True)
class Made:
    """A summary.

    Attributes:
        sentences: Its sentences.
        read_tokens: Tokens that were prefilled.
        written_tokens: Tokens that the model wrote; 0 where they are not counted.
        seconds: Time that it took.
        device: Name of the device.
    """

    sentences: tuple[RowSentence, ...]
    read_tokens: int = 0
    written_tokens: int = 0
    seconds: float = 0.0
    device: str = "cpu"


def by_nsa(engine: Engine, document: Document, length: SummaryLength, emit: Emit) -> Made:
    """Summarize as `nsa summarize` does.

    Raises:
        NsaError: If the document does not fit the model or the memory.
    """
    began = time.monotonic()
    opened = drain(engine.prefill_chunks(document, summary_room(engine, None)), emit)
    summary = summarize_document(opened, SummaryRequest(length=length))
    found = [_row_sentence(each, overview=True) for each in summary.overview]
    told = {each.text for each in found}
    found += [
        _row_sentence(each, overview=False) for each in summary.statements if each.text not in told
    ]
    return Made(
        sentences=tuple(found),
        read_tokens=opened.text.document_tokens,
        seconds=time.monotonic() - began,
        device=_device(engine),
    )


def by_beginning(engine: Engine, document: Document, length: SummaryLength, emit: Emit) -> Made:
    """Summarize the beginning; arguments and errors as for `by_nsa`."""
    began = time.monotonic()
    first = next(chunk_texts(engine.tokenizer, document, BEGINNING_TOKENS))
    writer = _Writer(engine, emit)
    text = writer.write(first, length.words)
    return _made(writer, document, text, began)


def by_map_reduce(engine: Engine, document: Document, length: SummaryLength, emit: Emit) -> Made:
    """Summarize chunks, then their summaries; arguments and errors as for `by_nsa`.

    Summaries that are longer than a chunk are summarized in groups first.
    """
    began = time.monotonic()
    texts = list(chunk_texts(engine.tokenizer, document, CHUNK_TOKENS))
    writer = _Writer(engine, emit)
    while len(texts) > 1:
        written = [writer.write(text, CHUNK_WORDS) for text in texts]
        joined = _grouped(engine.tokenizer, written, CHUNK_TOKENS)
        texts = joined if len(joined) < len(texts) else ["\n".join(joined)]
    return _made(writer, document, writer.write(texts[0], length.words), began)


def chunk_texts(tokenizer: _HasTokens, document: Document, most: int) -> Iterator[str]:
    """Yield the text of a document in chunks of whole sentences, of at most some tokens each.

    A sentence that is longer is cut.
    """
    text, edges = document.text, document.edges(0, len(document.text))
    first, last, used = 0, 0, 0
    for start, end in sentences(text, 0, len(text), edges, longest=most):
        size = len(tokenizer.encode(text[start:end])) + 1
        if used and used + size > most:
            yield text[first:last]
            first, used = start, 0
        last, used = end, used + size
    if used:
        yield text[first:last]


def _grouped(tokenizer: _HasTokens, texts: Sequence[str], most: int) -> list[str]:
    """Join texts into groups of at most some tokens."""
    groups: list[str] = []
    used = most
    for text in texts:
        size = len(tokenizer.encode(text)) + 1
        if used + size > most:
            groups.append(text)
            used = 0
        else:
            groups[-1] += f"\n{text}"
        used += size
    return groups


@dataclass
class _Writer:
    """Lets the model summarize texts in its chat template, and counts its tokens.

    Attributes:
        engine: The model, with dense attention.
        emit: Receives progress.
    """

    engine: Engine
    emit: Emit
    read: int = 0
    written: int = 0

    def write(self, text: str, words: int) -> str:
        """Summarize a text in some words."""
        options = GenerationOptions(
            max_tokens=most_tokens(words),
            temperature=self.engine.options.temperature,
            seed=self.engine.options.seed,
            answer_blocks=None,
        )
        messages = [("user", f"{text}\n\n{request(words)}")]
        finished = drain(plain_steps(self.engine, messages, options), self.emit)
        self.read += finished.stats.question_tokens
        self.written += finished.stats.answer_tokens
        return finished.answer


def request(words: int) -> str:
    """Return the request of the baselines."""
    return f"Summarize the text above in about {words} words, in whole sentences."


def most_tokens(words: int) -> int:
    """Maximum tokens of a summary of some words."""
    return int(words * _TOKENS_PER_WORD) + _TOKENS_MORE


def _made(writer: _Writer, document: Document, text: str, began: float) -> Made:
    chunks = Chunks(document)
    found = []
    for sentence in dict.fromkeys(sentences_of(text)):
        best = chunks.best(sentence)
        cited = cite(best.document, best.passages, sentence, "", at_most=1).citations
        found.append(
            RowSentence(
                text=sentence,
                quotes=tuple(citation.quote for citation in cited),
                verified=any(citation.verified for citation in cited),
            )
        )
    return Made(
        sentences=tuple(found),
        read_tokens=writer.read,
        written_tokens=writer.written,
        seconds=time.monotonic() - began,
        device=_device(writer.engine),
    )


def _row_sentence(statement: Statement, *, overview: bool) -> RowSentence:
    return RowSentence(
        text=statement.text,
        quotes=tuple(citation.quote for citation in statement.citations),
        verified=statement.is_supported,
        verbatim=statement.verbatim,
        overview=overview,
    )


def _device(engine: Engine) -> str:
    device = pick_device(engine.options.device)
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
