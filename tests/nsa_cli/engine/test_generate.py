"""Scores of blocks, decoded answers and citations."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import torch

from nsa_cli.context.prompt import PromptBuilder
from nsa_cli.context.tokens import TokenizedText
from nsa_cli.documents.text import read_text
from nsa_cli.engine import generate
from nsa_cli.engine.generate import GenerationOptions
from nsa_cli.events import AnswerText, Event, drain
from nsa_cli.retrieval.attention import block_scores
from nsa_cli.retrieval.passages import top_passages
from nsa_models.cache.kv_cache import KVCache
from nsa_models.cache.layer_devices import pick_device
from nsa_models.errors import UsageError
from nsa_models.generation.generate import DecodedToken, prefill
from nsa_models.modeling.model import NSALanguageModel
from nsa_models.tokenization.tokenizer import Tokenizer
from nsa_models.weights.load import load_config, load_model


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> NSALanguageModel:
    return load_model(tiny_model, load_config(tiny_model)[0])


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Tokenizer:
    return Tokenizer.from_folder(tiny_model)


def read(model: NSALanguageModel, text: TokenizedText) -> KVCache:
    cache = KVCache(model.config, len(text.ids) + 500)
    for _ in prefill(model, text.ids, cache):
        pass
    return cache


@pytest.mark.parametrize("lines", [30, 100])
def test_scoring_does_not_change_the_cache(
    model: NSALanguageModel, tokenizer: Tokenizer, prose: Any, lines: int
) -> None:
    paper, settings = read_text(prose(lines).encode(), "a.txt"), model.config.answer_settings()
    prompter = PromptBuilder(tokenizer, None)
    text, asked = prompter.whole(paper), prompter.question("Who wrote it?")
    cache = read(model, text)
    length, keys = cache.length, torch.stack(cache.keys)[..., : cache.length, :]
    [scores] = block_scores(model, [cache], [text], asked, settings)
    assert cache.length == length
    assert torch.equal(torch.stack(cache.keys)[..., :length, :], keys)
    assert torch.equal(scores, block_scores(model, [cache], [text], asked, settings)[0])
    passages = top_passages(scores, text, paper, model.config.select_block)
    assert sum(passage.score for passage in passages) == pytest.approx(1)
    for passage in passages:  # passages are whole lines
        assert passage.start == 0 or paper.text[passage.start - 1] == "\n"
        assert passage.end == len(paper.text) or paper.text[passage.end] == "\n"
    starts = [passage.start for passage in passages]
    assert starts == sorted(starts)


@pytest.mark.parametrize("blocks", [None, 2])
def test_texts_scored_together_equal_separate_texts(
    model: NSALanguageModel, tokenizer: Tokenizer, prose: Any, blocks: int | None
) -> None:
    """Texts of three lengths, one of a few words."""
    prompter = PromptBuilder(tokenizer, None)
    settings = GenerationOptions(answer_blocks=blocks).attention(model.config)
    texts = [prompter.plain(prose(lines)) for lines in (60, 2, 25)]
    asked = prompter.question("Who wrote it?")
    caches = [read(model, text) for text in texts]
    lengths = [cache.length for cache in caches]
    alone = [
        block_scores(model, [cache], [text], asked, settings)[0]
        for cache, text in zip(caches, texts, strict=True)
    ]
    together = block_scores(model, caches, texts, asked, settings)
    assert [cache.length for cache in caches] == lengths
    for one, other in zip(alone, together, strict=True):
        assert one.shape == other.shape
        torch.testing.assert_close(one, other)


def steps(ids: list[int], blocks: int) -> Any:
    return lambda *_, **__: iter([DecodedToken(id=i, mass=torch.zeros(2, 4, blocks)) for i in ids])


def decoded(
    model: NSALanguageModel,
    tokenizer: Tokenizer,
    monkeypatch: pytest.MonkeyPatch,
    ids: list[int],
) -> tuple[generate.GeneratedAnswer, list[str]]:
    prompter = PromptBuilder(tokenizer, None)
    text = prompter.whole(read_text(b"It rained.", "a.txt"))
    monkeypatch.setattr(generate, "decode", steps(ids, 3))
    events: list[Event] = []
    steps_made = generate.generate(
        model,
        tokenizer,
        read(model, text),
        text,
        prompter.question("When?"),
        GenerationOptions(),
        time.monotonic(),
    )
    answer = drain(steps_made, events.append)
    return answer, [event.text for event in events if isinstance(event, AnswerText)]


def test_characters_are_complete(
    model: NSALanguageModel, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = tokenizer.encode(" \n 𐍈雨 fell").tolist()
    answer, pieces = decoded(model, tokenizer, monkeypatch, ids)
    assert answer.text == "".join(pieces) == "𐍈雨 fell"
    assert (answer.finish_reason, answer.tokens) == ("length", len(ids))
    assert not [piece for piece in pieces if "\ufffd" in piece or not piece]


def test_the_end_token_is_not_shown(
    model: NSALanguageModel, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    [end, *_] = tokenizer.stop_ids
    ids = [*tokenizer.encode("yes ").tolist(), end]
    answer, _ = decoded(model, tokenizer, monkeypatch, ids)
    assert (answer.text, answer.finish_reason, answer.tokens) == ("yes", "stop", len(ids))


def test_an_incomplete_character_is_replaced(
    model: NSALanguageModel, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = tokenizer.encode("a𐍈").tolist()[:-1]
    answer, pieces = decoded(model, tokenizer, monkeypatch, ids)
    assert answer.text == "".join(pieces) == "a\ufffd"


def test_devices() -> None:
    assert pick_device("cpu").type == "cpu"
    if not torch.cuda.is_available():
        assert pick_device("auto").type == "cpu"
        with pytest.raises(UsageError, match="CUDA"):
            pick_device("cuda")


def test_a_short_text_is_answered_directly(
    asker: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prose: Any
) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("a closer look")

    monkeypatch.setattr(PromptBuilder, "excerpts", refuse)
    (tmp_path / "a.txt").write_text(prose(20))
    asker(tmp_path / "a.txt")
    (tmp_path / "a.txt").write_text(prose(120))
    with pytest.raises(AssertionError):
        asker(tmp_path / "a.txt")


def test_citations_are_verbatim_at_their_lines(asker: Any, text_file: Path) -> None:
    lines = text_file.read_text().splitlines()
    for question in ("Who wrote report 17?", "What of line 80?", "Why?"):
        citations = asker(text_file, question).citations
        assert citations
        for citation in citations:
            first, last = citation.line_start, citation.line_end
            assert citation.quote == "\n".join(lines[first - 1 : last])
            assert citation.page is None


@pytest.mark.parametrize("text", ["the", "It rained in March.\n", "One.\nTwo.\nThree.\n"])
def test_a_very_short_text_is_cited(asker: Any, tmp_path: Path, text: str) -> None:
    (tmp_path / "a.txt").write_text(text)
    citations = asker(tmp_path / "a.txt").citations
    assert citations
    assert all(citation.quote in text for citation in citations)


@pytest.mark.model
def test_the_example_is_answered_correctly(asker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NSA_CACHE_DIR")
    monkeypatch.delenv("NSA_OFFLINE")
    example = Path(__file__).parents[3] / "examples" / "fhs-3.0.pdf"
    question = "On what date was version 3.0 of the standard published?"
    found = asker(
        example,
        question,
        remember=True,
        model="qwen2.5-coder-0.5b",
        max_tokens=64,
        cache_limit_bytes=20 * 10**9,
    )
    assert "March 19, 2015" in found.answer
    assert 2 in [citation.page for citation in found.citations]
    assert found.citations[0].verified
