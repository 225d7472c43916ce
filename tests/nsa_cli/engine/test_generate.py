"""Looking, answering and weighing, over a reading."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nsa_cli.config.options import Options
from nsa_cli.context.prompt import Prompter
from nsa_cli.context.tokens import Text
from nsa_cli.documents.text import read_text
from nsa_cli.engine import generate
from nsa_cli.engine.generate import Loaded, decode_answer
from nsa_cli.evaluation.runner import answering_with
from nsa_cli.events import AnswerText, Event
from nsa_cli.results import Passage
from nsa_cli.retrieval import passages
from nsa_cli.retrieval.attention import block_scores
from nsa_cli.retrieval.passages import look, weigh
from nsa_models.cache.kv_cache import KVCache
from nsa_models.cache.layer_devices import pick_device
from nsa_models.errors import UsageError
from nsa_models.generation.generate import Step, prefill
from nsa_models.model_folder import ModelFolder
from nsa_models.tokenization.tokenizer import Tokenizer
from nsa_models.weights.load import load_config, load_model


@pytest.fixture(scope="module")
def loaded(tiny_model: Path) -> Loaded:
    config, _ = load_config(tiny_model)
    return Loaded(
        where=ModelFolder(name="tiny", folder=tiny_model, fingerprint="f"),
        model=load_model(tiny_model, config),
        tokenizer=Tokenizer.from_folder(tiny_model),
    )


def read(loaded: Loaded, text: Text) -> KVCache:
    cache = KVCache(loaded.model.config, len(text.ids) + 500)
    for _ in prefill(loaded.model, text.ids, cache):
        pass
    return cache


@pytest.mark.parametrize("lines", [30, 100])
def test_looking_leaves_the_cache_as_it_was(loaded: Loaded, prose: Any, lines: int) -> None:
    paper = read_text(prose(lines).encode(), "a.txt")
    prompter = Prompter(loaded.tokenizer, None)
    text, asked = prompter.whole(paper), prompter.question("Who wrote it?")
    cache = read(loaded, text)
    length, keys = cache.length, torch.stack(cache.keys)[..., : cache.length, :]
    [scores] = block_scores(loaded.model, [cache], [text], asked)
    assert cache.length == length
    assert torch.equal(torch.stack(cache.keys)[..., :length, :], keys)
    assert torch.equal(scores, block_scores(loaded.model, [cache], [text], asked)[0])
    passages = look(scores, text, paper, loaded.model.config.select_block)
    assert sum(passage.score for passage in passages) == pytest.approx(1)
    for passage in passages:  # whole lines
        assert passage.start == 0 or paper.text[passage.start - 1] == "\n"
        assert passage.end == len(paper.text) or paper.text[passage.end] == "\n"
    starts = [passage.start for passage in passages]
    assert starts == sorted(starts)


@pytest.mark.parametrize("blocks", [None, 2])
def test_texts_looked_over_side_by_side_are_as_if_each_were_alone(
    loaded: Loaded, prose: Any, blocks: int | None
) -> None:
    """Texts of three lengths, one of a few words."""
    prompter, model = Prompter(loaded.tokenizer, None), loaded.model
    texts = [prompter.plain(prose(lines)) for lines in (60, 2, 25)]
    asked = prompter.question("Who wrote it?")
    caches = [read(loaded, text) for text in texts]
    lengths = [cache.length for cache in caches]
    with answering_with(model, blocks):
        alone = [
            block_scores(model, [cache], [text], asked)[0]
            for cache, text in zip(caches, texts, strict=True)
        ]
        together = block_scores(model, caches, texts, asked)
    assert [cache.length for cache in caches] == lengths
    for one, other in zip(alone, together, strict=True):
        assert one.shape == other.shape
        torch.testing.assert_close(one, other)


def test_passages_that_touch_merge() -> None:
    text = "one two\nthree four\nfive six\nseven"
    assert passages._passages([(5, 9, 0.25), (16, 17, 0.5), (29, 30, 0.25)], text) == [
        Passage(start=0, end=18, score=0.75),
        Passage(start=28, end=33, score=0.25),
    ]


def test_a_passage_of_a_very_long_line_is_a_part_of_it() -> None:
    text = "word " * 20_000
    [passage] = passages._passages([(50_000, 50_300, 1.0)], text)
    assert passage.start <= 50_000
    assert passage.end >= 50_300
    assert passage.end - passage.start < 5_000


def weighed(tokens: int, block: int) -> list[float]:
    """Scores of two passages, one in the first block and one in `block`, when all look there."""
    text = Text(
        ids=np.zeros(tokens, np.int32), characters=np.arange(tokens) * 10, document_tokens=tokens
    )
    mass = torch.zeros(-(-tokens // 64))
    mass[block] = 1.0
    passages = [
        Passage(start=0, end=640, score=0.5),
        Passage(start=block * 640, end=(block + 1) * 640, score=0.5),
    ]
    return [passage.score for passage in weigh(passages, mass, text)]


@pytest.mark.parametrize("tokens", [640, 1024])
def test_the_answers_attention_counts_for_half(tokens: int) -> None:
    assert weighed(tokens, 5) == pytest.approx([0.25, 0.75])


def test_weighing_a_text_that_ends_inside_a_block() -> None:
    text = Text(ids=np.zeros(130, np.int32), characters=np.arange(130), document_tokens=130)
    passages = [Passage(start=0, end=64, score=0.5), Passage(start=64, end=128, score=0.5)]
    scores = [p.score for p in weigh(passages, torch.tensor([0.0, 1.0, 0.0]), text)]
    assert scores == pytest.approx([0.25, 0.75])


def steps(ids: list[int], blocks: int) -> Any:
    return lambda *_, **__: iter([Step(id=i, mass=torch.zeros(2, 4, blocks)) for i in ids])


def decoded(
    loaded: Loaded, monkeypatch: pytest.MonkeyPatch, ids: list[int]
) -> tuple[generate.Answer, list[str]]:
    prompter = Prompter(loaded.tokenizer, None)
    text = prompter.whole(read_text(b"It rained.", "a.txt"))
    monkeypatch.setattr(generate, "decode", steps(ids, 3))
    events: list[Event] = []
    answer = decode_answer(
        loaded,
        read(loaded, text),
        text,
        prompter.question("When?"),
        Options(model="m"),
        events.append,
        time.monotonic(),
    )
    return answer, [event.text for event in events if isinstance(event, AnswerText)]


def test_characters_come_whole(loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = loaded.tokenizer.encode(" \n 𐍈雨 fell").tolist()
    answer, pieces = decoded(loaded, monkeypatch, ids)
    assert answer.text == "".join(pieces) == "𐍈雨 fell"
    assert (answer.finish_reason, answer.tokens) == ("length", len(ids))
    assert not [piece for piece in pieces if "\ufffd" in piece or not piece]


def test_the_end_token_is_not_shown(loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    [end, *_] = loaded.tokenizer.stop_ids
    ids = [*loaded.tokenizer.encode("yes ").tolist(), end]
    answer, _ = decoded(loaded, monkeypatch, ids)
    assert (answer.text, answer.finish_reason, answer.tokens) == ("yes", "stop", len(ids))


def test_a_character_cut_off_is_shown_as_such(
    loaded: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = loaded.tokenizer.encode("a𐍈").tolist()[:-1]
    answer, pieces = decoded(loaded, monkeypatch, ids)
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

    monkeypatch.setattr(Prompter, "excerpts", refuse)
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
def test_the_example_is_answered_rightly(asker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
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
