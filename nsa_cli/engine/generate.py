"""Generation of an answer from a KV cache, with the attention that its tokens give the text."""

from __future__ import annotations

import codecs
import time
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import torch

from nsa_cli.context.tokens import TokenizedQuestion, TokenizedText
from nsa_cli.engine.stop_strings import StopStrings
from nsa_cli.events import AnswerText, TokenLogprob
from nsa_cli.retrieval.attention import answer_attention
from nsa_cli.retrieval.passages import AnswerAttention
from nsa_kernels.settings import AttentionSettings
from nsa_models.cache.kv_cache import KVCache
from nsa_models.generation.generate import DecodedToken, DecodeOptions, decode
from nsa_models.generation.json_grammar import JsonGrammar
from nsa_models.modeling.model import NSALanguageModel
from nsa_models.tokenization.tokenizer import Tokenizer

if TYPE_CHECKING:
    from nsa_cli.config.options import Options
    from nsa_models.configuration.config import NSAConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationOptions:
    """How an answer is generated.

    Attributes:
        max_tokens: Maximum tokens of the answer.
        temperature: 0 is greedy.
        seed: For sampling.
        answer_blocks: Blocks that the question and the answer attend to; None for the whole text,
            `model` for the model's configuration.
        top_p: Sampling takes the likeliest tokens whose probabilities sum to this share.
        stop: Strings before which the answer ends.
        logprobs: Likeliest tokens to return with each token; None for no probabilities.
        schema: JSON schema that the answer matches; None for free text.
        source: What an answer is decoded from: `parts`, the best parts of pages, prefilled again on
            their own; `passages`, the same of the four best blocks with their neighbors; `pages`,
            the stored keys and values of parts; `pages+passages`, the passages after these.
        page_tokens: Maximum tokens of all parts.
        part_tokens: Maximum tokens of a part; a shorter page is one part.
        candidates: Parts that are ranked by the likelihood of the question.
        move: Whether the pages get consecutive positions.
        compute: Whether a question that asks for arithmetic is answered by an expression.
        verify: Whether the model's verifier checks answers, if it has one.
    """

    max_tokens: int = 256
    temperature: float = 0.0
    seed: int | None = None
    answer_blocks: int | Literal["model"] | None = "model"
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    logprobs: int | None = None
    schema: Mapping[str, Any] | None = None
    source: Literal["parts", "passages", "pages", "pages+passages"] = "parts"
    page_tokens: int = 1024
    part_tokens: int = 256
    candidates: int = 8
    move: bool = True
    compute: bool = False
    verify: bool = True

    @classmethod
    def of(cls, options: Options) -> GenerationOptions:
        """Take the generation options of a command; its blocks are in the configuration."""
        return cls(
            max_tokens=options.max_tokens,
            temperature=options.temperature,
            seed=options.seed,
            compute=options.compute,
        )

    def attention(self, config: NSAConfig) -> AttentionSettings:
        """Attention settings of question and answer."""
        settings = config.answer_settings()
        if self.answer_blocks == "model":
            return settings
        return replace(settings, select_count=self.answer_blocks)


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratedAnswer:
    """A decoded answer.

    Attributes:
        text: The answer.
        tokens: Its tokens, the end token included.
        attention: Attention that its tokens gave the text.
        finish_reason: `stop`, or `length` if the token limit cut it.
        first_token_seconds: From the question to the first token.
        tokens_per_second: Of the tokens after the first.
    """

    text: str
    tokens: int
    attention: AnswerAttention
    finish_reason: str
    first_token_seconds: float
    tokens_per_second: float


def generate(
    model: NSALanguageModel,
    tokenizer: Tokenizer,
    cache: KVCache,
    text: TokenizedText,
    question: TokenizedQuestion,
    options: GenerationOptions,
    started: float,
) -> Generator[AnswerText, None, GeneratedAnswer]:
    """Decode an answer.

    Args:
        model: The model.
        tokenizer: Its tokenizer.
        cache: Keys and values of `text`; question and answer are appended.
        text: The text that the answer is decoded from.
        question: The question.
        options: How to generate.
        started: Time of the question on the monotonic clock, in seconds.

    Yields:
        The answer, piece by piece; a character never comes in two, nor does a stop string.

    Returns:
        The whole answer.
    """
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    size = model.config.select_block
    # Summed on the device: only token ids are copied to the host one by one.
    mass = torch.zeros(-(-len(text.ids) // size), device=model.device)
    shown = StopStrings(options.stop)
    pieces: list[str] = []
    tokens, reason, first = 0, "length", 0.0
    for step in _decode(model, tokenizer, cache, text, question, options):
        if not tokens:
            first = time.monotonic() - started
        tokens += 1
        if step.id in tokenizer.stop_ids:
            reason = "stop"
            break
        mass += answer_attention(step.mass)[: len(mass)]
        piece = decoder.decode(tokenizer.decode_bytes(step.id))
        if event := shown.push(piece, _token_logprob(tokenizer, step)):
            pieces.append(event.text)
            yield event
        if shown.stopped:
            reason = "stop"
            break
    if not shown.stopped and (event := shown.rest(decoder.decode(b"", final=True))):
        pieces.append(event.text)
        yield event
    spent = time.monotonic() - started - first
    return GeneratedAnswer(
        text="".join(pieces).rstrip(),
        tokens=tokens,
        attention=AnswerAttention(mass=mass.cpu(), text=text, size=size),
        finish_reason=reason,
        first_token_seconds=first,
        tokens_per_second=(tokens - 1) / spent if tokens > 1 and spent > 0 else 0.0,
    )


def _token_logprob(tokenizer: Tokenizer, step: DecodedToken) -> TokenLogprob | None:
    """The token with its probability, if that was asked for."""
    if step.logprob is None:
        return None
    top = tuple((tokenizer.decode_bytes(index), logprob) for index, logprob in step.top)
    token = tokenizer.decode_bytes(step.id)
    return TokenLogprob(token=token, logprob=step.logprob, top=top)


def _decode(
    model: NSALanguageModel,
    tokenizer: Tokenizer,
    cache: KVCache,
    text: TokenizedText,
    question: TokenizedQuestion,
    options: GenerationOptions,
) -> Iterator[DecodedToken]:
    """Decode the answer's tokens; arguments as for `generate`."""
    return decode(
        model,
        question.ids,
        cache,
        DecodeOptions(
            max_tokens=options.max_tokens,
            stop_ids=tokenizer.stop_ids,
            temperature=options.temperature,
            seed=options.seed,
            top_p=options.top_p,
            logprobs=options.logprobs,
            grammar=None if options.schema is None else JsonGrammar(tokenizer, options.schema),
        ),
        settings=options.attention(model.config),
        quoted=text.ids,
    )
