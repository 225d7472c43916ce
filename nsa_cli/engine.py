"""The steps of an answer: a configuration that fits, the look, the decoding, the weighing.

`session` puts them together.
"""

from __future__ import annotations

import codecs
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nsa_cli.documents import Document
from nsa_cli.events import AnswerText, Event
from nsa_cli.evidence import Passage, answer_evidence, best_runs, question_evidence, shares
from nsa_cli.options import Options
from nsa_cli.prompt import Question, Text
from nsa_models.cache import KVCache, SideBySide
from nsa_models.errors import UsageError
from nsa_models.generation import decode
from nsa_models.modeling import NSALanguageModel
from nsa_models.resolve import ModelFolder
from nsa_models.tokenizer import Tokenizer

_CLOSE_BLOCKS = 4
_CLOSE_MARGIN = 1
_CLOSE_SIZE = 64
"""Tokens of the blocks that these two count; of smaller ones there are more."""

CLOSE_TOKENS = 1024
"""A text up to this long is answered from directly: a closer look would take in all of it."""

_LINE_REACH = 400
"""Characters by which a passage is widened at most to take in a line whole."""

Emit = Callable[[Event], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A model ready to run, and its tokenizer."""

    where: ModelFolder
    model: NSALanguageModel
    tokenizer: Tokenizer


def pick_device(wanted: str) -> torch.device:
    """The device to run on; `auto` is a CUDA device where there is one.

    Raises:
        UsageError: If the device asked for is not there.
    """
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if wanted == "cuda" and not torch.cuda.is_available():
        raise UsageError("this machine has no CUDA device", hint="leave --device out")
    return torch.device(wanted)


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


def look(scores: Tensor, text: Text, document: Document, size: int) -> list[Passage]:
    """The passages that a question lights on.

    Args:
        scores: (N,), from `OpenText.scores`.
        text: What was read.
        document: Where it comes from.
        size: Tokens of a block.
    """
    per, ends = _blocks_per(size), set[int]()
    if text.document_tokens > CLOSE_TOKENS and document.pieces[-1].page is None:
        # The end of a log is where things went wrong: it is taken in.
        ends = set(range(len(scores) - 2 * per, len(scores)))
    runs = best_runs(scores, _CLOSE_BLOCKS * per, _CLOSE_MARGIN * per, ends)
    if not runs and text.document_tokens <= CLOSE_TOKENS:
        return [Passage(start=0, end=len(document.text), score=1.0)]
    return passages_of(runs, text, document, size)


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
        per, firsts = _blocks_per(size), [start // size for start in text.starts]
        for first, stop in zip(firsts, [*firsts[1:], len(scores)], strict=True):
            scores[first : first + per] = 0
            scores[stop - 2 * per : stop] = 0
    return scores


def _blocks_per(size: int) -> int:
    """Blocks of a size that take the place of one of `_CLOSE_SIZE`."""
    return max(1, _CLOSE_SIZE // size)


def passages_of(
    runs: Sequence[tuple[int, int, float]], text: Text, document: Document, size: int
) -> list[Passage]:
    """Runs of blocks as passages of the document, with shares of the scores.

    Args:
        runs: First block, one past the last, and score of each, in the order of the text.
        text: What was read.
        document: Where it comes from.
        size: Tokens of a block.
    """
    weights = shares([score for _, _, score in runs])
    return _passages(
        [
            (span[0], span[1], weight)
            for (first, stop, _), weight in zip(runs, weights, strict=True)
            if (span := text.span(first * size, min(stop * size, len(text.ids)))) is not None
        ],
        document.text,
    )


def _passages(spans: Sequence[tuple[int, int, float]], text: str) -> list[Passage]:
    """Widen spans to whole lines, unless these are very long, and merge those that touch."""
    passages: list[Passage] = []
    for start, end, score in spans:
        start = max(text.rfind("\n", 0, start) + 1, start - _LINE_REACH)
        newline = text.find("\n", end)
        end = min(newline if newline >= 0 else len(text), end + _LINE_REACH)
        if passages and start <= passages[-1].end:
            last = passages.pop()
            start, end, score = last.start, max(end, last.end), score + last.score
        passages.append(Passage(start=start, end=end, score=score))
    return passages


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A decoded answer; `mass` is the attention (N,) that its tokens gave the blocks."""

    text: str
    tokens: int
    mass: Tensor
    finish_reason: str
    first_token_seconds: float
    tokens_per_second: float


def decode_answer(
    loaded: Loaded,
    cache: KVCache,
    text: Text,
    asked: Question,
    options: Options,
    emit: Emit,
    started: float,
) -> Answer:
    """Decode the answer, emitting its text as it comes."""
    stop_ids = loaded.tokenizer.stop_ids
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    size = loaded.model.config.select_block
    # Summed on the device: only the tokens' ids come over one by one.
    mass = torch.zeros(-(-len(text.ids) // size), device=loaded.model.device)
    pieces: list[str] = []
    tokens, reason, first = 0, "length", 0.0
    steps = decode(
        loaded.model,
        asked.ids,
        cache,
        max_tokens=options.max_tokens,
        stop_ids=stop_ids,
        temperature=options.temperature,
        seed=options.seed,
        quoted=text.ids,
    )
    for step in steps:
        if not tokens:
            first = time.monotonic() - started
        tokens += 1
        if step.id in stop_ids:
            reason = "stop"
            break
        mass += answer_evidence(step.mass)[: len(mass)]
        piece = decoder.decode(loaded.tokenizer.decode_bytes(step.id))
        if not pieces:
            piece = piece.lstrip()
        if piece:
            pieces.append(piece)
            emit(AnswerText(text=piece))
    if rest := decoder.decode(b"", final=True):
        pieces.append(rest)
        emit(AnswerText(text=rest))
    spent = time.monotonic() - started - first
    return Answer(
        text="".join(pieces).rstrip(),
        tokens=tokens,
        mass=mass.cpu(),
        finish_reason=reason,
        first_token_seconds=first,
        tokens_per_second=(tokens - 1) / spent if tokens > 1 and spent > 0 else 0.0,
    )


def weigh(passages: Sequence[Passage], mass: Tensor, text: Text, size: int = 64) -> list[Passage]:
    """Add to each passage's share of the question's attention that of the answer's.

    Args:
        passages: From `look`.
        mass: (N,) from the answer, over the blocks of `text`.
        text: What the answer was decoded from.
        size: Tokens of a block.
    """
    found = [0.0] * len(passages)
    for block, value in enumerate(mass.tolist()):
        own = text.characters[block * size : (block + 1) * size]
        for number, passage in enumerate(passages):
            inside = (own >= passage.start) & (own < passage.end)
            found[number] += value * float(inside.mean()) if len(own) else 0.0
    return [
        Passage(start=p.start, end=p.end, score=(p.score + share) / 2)
        for p, share in zip(passages, shares(found), strict=True)
    ]
