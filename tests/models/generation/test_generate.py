"""Prefill and decoding: the chunk size changes nothing, and answers end."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from nsa_models.cache.kv_cache import KVCache
from nsa_models.configuration.config import NSAConfig
from nsa_models.generation import generate
from nsa_models.generation.generate import DecodeOptions, PromptLookup, _nucleus, decode, prefill
from nsa_models.modeling.int8 import quantize
from nsa_models.transformers_model import NSAForCausalLM

LENGTH = 713
ANSWER = 12
QUESTION = [3, 1, 4, 1, 5]


@pytest.fixture
def model(seed: int) -> NSAForCausalLM:
    """A random model for which 700 tokens exceed the prefill's budget."""
    torch.manual_seed(seed)
    config = NSAConfig(
        vocab_size=96,
        hidden_size=48,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=6,
        num_key_value_heads=2,
        select_count=2,
        window=64,
        answer_select_count=3,
        answer_window=64,
    )
    model = NSAForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.15)
    return model


@pytest.fixture
def text(seed: int) -> list[int]:
    generator = torch.Generator().manual_seed(seed + 1)
    return torch.randint(96, (LENGTH,), generator=generator).tolist()


def read(model: NSAForCausalLM, text: list[int], chunk_size: int = 1024) -> KVCache:
    cache = KVCache(model.config, LENGTH + len(QUESTION) + 60)
    list(prefill(model, text, cache, chunk_size=chunk_size))
    return cache


def answer(model: NSAForCausalLM, cache: KVCache, **options: Any) -> list[int]:
    call = {key: options.pop(key) for key in ("quoted", "settings") if key in options}
    options = {"max_tokens": ANSWER, "stop_ids": frozenset(), **options}
    return [step.id for step in decode(model, QUESTION, cache, DecodeOptions(**options), **call)]


def assert_same_prefill(found: KVCache, expected: KVCache, length: int = LENGTH) -> None:
    assert found.length == expected.length == length
    for name in ("keys", "values"):
        ours, theirs = (torch.stack(getattr(cache, name)) for cache in (found, expected))
        difference = (ours - theirs)[..., :length, :].abs().max()
        assert difference < 1e-4 * theirs.abs().max()


def test_the_prefill_is_sparse(model: NSAForCausalLM, text: list[int]) -> None:
    """Otherwise the tests below would show nothing."""
    sparse = read(model, text)
    model.config.select_count = None
    dense = read(model, text)
    difference = (sparse.keys[1] - dense.keys[1]).abs().amax(dim=(0, 1, 3))
    assert difference[: 4 * 64].max() < 1e-4
    assert difference[4 * 64 : LENGTH].max() > 0.01


@pytest.mark.parametrize("chunk_size", [64, 128, 320])
def test_the_chunk_size_changes_nothing(
    chunk_size: int, model: NSAForCausalLM, text: list[int]
) -> None:
    found, expected = read(model, text, chunk_size), read(model, text)
    assert_same_prefill(found, expected)
    assert answer(model, found) == answer(model, expected)


@pytest.mark.parametrize("begun", [64, 256, 320, 384, 704])
@pytest.mark.parametrize("chunk_size", [64, 1024])
def test_a_resumed_prefill(
    begun: int, chunk_size: int, model: NSAForCausalLM, text: list[int]
) -> None:
    """The prefill resumes at a multiple of the block size."""
    cache = KVCache(model.config, LENGTH + len(QUESTION) + 60)
    list(prefill(model, text[:begun], cache, chunk_size=128))
    assert cache.length == begun
    list(prefill(model, text, cache, chunk_size=chunk_size))
    expected = read(model, text)
    assert_same_prefill(cache, expected)
    assert answer(model, cache) == answer(model, expected)


@pytest.mark.parametrize("keep", [64, 448])
def test_a_shortened_prefill(keep: int, model: NSAForCausalLM, text: list[int]) -> None:
    """Another text with the same beginning."""
    cache = read(model, text[:keep] + text[: LENGTH - keep])
    answer(model, cache)
    cache.truncate(keep)
    list(prefill(model, text, cache))
    assert_same_prefill(cache, read(model, text))


def test_chunks_end_at_multiples(model: NSAForCausalLM, text: list[int]) -> None:
    cache = KVCache(model.config, LENGTH)
    assert list(prefill(model, text[:100], cache, chunk_size=128)) == [100]
    assert list(prefill(model, text, cache, chunk_size=128)) == [128, 256, 384, 512, 640, LENGTH]
    assert list(prefill(model, text, cache, chunk_size=128)) == []


def test_chunks_of_incomplete_blocks_are_refused(model: NSAForCausalLM) -> None:
    with pytest.raises(ValueError, match="chunk_size 100 is not a multiple of select_block 64"):
        next(prefill(model, [1, 2], KVCache(model.config, 2), chunk_size=100))


@pytest.mark.parametrize("combine", ["union", "gated"])
def test_the_last_layer_of_a_prefill_only_appends(combine: str, seed: int, text: list[int]) -> None:
    """The appended keys, values and summaries equal those of a pass with logits."""
    torch.manual_seed(seed)
    config = NSAConfig(
        vocab_size=96, hidden_size=48, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=6, num_key_value_heads=2, select_count=2, window=64,
        combine=combine, compress_hidden=8,
    )  # fmt: skip
    model = NSAForCausalLM(config).eval().requires_grad_(False)
    runs: list[int] = []
    for layer in range(2):
        model.model.layers[layer].mlp.register_forward_hook(
            lambda *_, layer=layer: runs.append(layer)
        )
    caches = []
    for wanted in (0, 1):
        cache = KVCache(config, LENGTH)
        model(torch.tensor([text]), cache=cache, last_logits=wanted)
        caches.append(cache)
    assert runs == [0, 0, 1]
    found, expected = caches
    assert_same_prefill(found, expected)
    settings = config.prefill_settings()
    for ours, theirs in zip(found.summaries(settings), expected.summaries(settings), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    # The next tokens attend to both caches alike.
    tail = torch.tensor([text[:30]])
    for cache in caches:
        cache.truncate(LENGTH - 30)
    torch.testing.assert_close(
        *(model(tail, cache=cache, last_logits=30).logits for cache in caches),
        rtol=1e-4, atol=1e-4,
    )  # fmt: skip


@pytest.mark.parametrize("kind", [list, torch.tensor, "int32"])
def test_ids_in_every_form(kind: Any, model: NSAForCausalLM, text: list[int]) -> None:
    ids = np.array(text, dtype=np.int32) if kind == "int32" else kind(text)
    question = np.array(QUESTION, dtype=np.int32) if kind == "int32" else kind(QUESTION)
    cache = KVCache(model.config, LENGTH + 60)
    list(prefill(model, ids, cache))
    steps = decode(model, question, cache, DecodeOptions(max_tokens=4, stop_ids=frozenset()))
    assert [step.id for step in steps] == answer(model, read(model, text), max_tokens=4)


def greedy_by_hand(model: NSAForCausalLM, text: list[int], count: int) -> list[int]:
    """The most likely tokens, with the question run again for each."""
    tokens: list[int] = []
    for _ in range(count):
        cache = read(model, text)
        ids = torch.tensor([QUESTION + tokens])
        with torch.inference_mode():
            logits = model(ids, cache=cache, settings=model.config.answer_settings()).logits
        tokens.append(int(logits[0, -1].argmax()))
    return tokens


def test_greedy_answers(model: NSAForCausalLM, text: list[int]) -> None:
    assert answer(model, read(model, text), max_tokens=4) == greedy_by_hand(model, text, 4)


def test_the_question_and_answer_are_appended(model: NSAForCausalLM, text: list[int]) -> None:
    """All tokens but the last, which was not run through the model."""
    cache = read(model, text)
    answer(model, cache)
    assert cache.length == LENGTH + len(QUESTION) + ANSWER - 1


@pytest.mark.parametrize("count", [0, 1, 7])
def test_max_tokens(count: int, model: NSAForCausalLM, text: list[int]) -> None:
    tokens = answer(model, read(model, text), max_tokens=7)
    assert answer(model, read(model, text), max_tokens=count) == tokens[:count]
    assert len(tokens) == 7


def test_decoding_stops_at_a_stop_token(model: NSAForCausalLM, text: list[int]) -> None:
    """The stop token is yielded too."""
    tokens = answer(model, read(model, text), temperature=1.0, seed=1)
    stop = tokens[5]
    expected = tokens[: tokens.index(stop) + 1]
    stops = frozenset({stop, 1000})
    found = answer(model, read(model, text), temperature=1.0, seed=1, stop_ids=stops)
    assert found == expected


def test_sampling_repeats_with_its_seed(model: NSAForCausalLM, text: list[int]) -> None:
    def sample(seed: int | None, temperature: float = 1.5) -> list[int]:
        options = {"temperature": temperature, "seed": seed, "max_tokens": 40}
        return answer(model, read(model, text), **options)

    assert sample(7) == sample(7)
    assert sample(7) != sample(8)
    assert sample(7, 1e-4) == sample(8, 0.0)


def test_sampling_without_a_seed_varies(model: NSAForCausalLM, text: list[int]) -> None:
    options = {"temperature": 5.0, "max_tokens": 40}
    assert answer(model, read(model, text), **options) != answer(
        model, read(model, text), **options
    )


def test_mass_of_every_step(model: NSAForCausalLM, text: list[int]) -> None:
    """The selected blocks, the window's two blocks, and no others."""
    steps = list(
        decode(
            model, QUESTION, read(model, text), DecodeOptions(max_tokens=5, stop_ids=frozenset())
        )
    )
    for number, step in enumerate(steps):
        position = LENGTH + len(QUESTION) - 1 + number
        assert step.mass.shape == (2, 6, position // 64 + 1)
        torch.testing.assert_close(step.mass.sum(dim=-1), torch.ones(2, 6))
        read_blocks = step.mass > 0
        assert (read_blocks.sum(dim=-1) == 3 + 2).all()
        assert read_blocks[..., [0, -2, -1]].all()


def test_settings_of_the_call_take_precedence(model: NSAForCausalLM, text: list[int]) -> None:
    dense = decode(
        model,
        QUESTION,
        read(model, text),
        DecodeOptions(max_tokens=1, stop_ids=frozenset()),
        settings=NSAConfig(select_count=None).prefill_settings(),
    )
    assert (next(dense).mass > 0).all()


def count_tokens(model: NSAForCausalLM) -> list[int]:
    """Tokens of each later run of the model."""
    runs: list[int] = []
    model.register_forward_pre_hook(lambda _, args: runs.append(args[0].shape[1]))
    return runs


@pytest.mark.parametrize("dense", [False, True])
def test_a_quoted_text_changes_only_the_number_of_runs(
    dense: bool, model: NSAForCausalLM, text: list[int]
) -> None:
    """The quoted text is the answer with some wrong tokens, so that most drafts are accepted."""
    if dense:
        model.config.answer_select_count = None
    options = DecodeOptions(max_tokens=40, stop_ids=frozenset())
    plain = list(decode(model, QUESTION, read(model, text), options))
    tokens = [step.id for step in plain]
    quoted = QUESTION + tokens[:15] + [95 - tokens[15]] + tokens[10:]
    cache = read(model, text)
    runs = count_tokens(model)
    steps = list(decode(model, QUESTION, cache, options, quoted=quoted))
    assert [step.id for step in steps] == tokens
    for step, expected in zip(steps, plain, strict=True):
        torch.testing.assert_close(step.mass, expected.mass, atol=1e-5, rtol=1e-4)
    assert cache.length == LENGTH + len(QUESTION) + len(tokens) - 1
    assert len(runs) < len(tokens) / 2


def test_a_stop_token_inside_a_draft(model: NSAForCausalLM, text: list[int]) -> None:
    tokens = answer(model, read(model, text), max_tokens=20)
    stop = tokens[7]
    expected = tokens[: tokens.index(stop) + 1]
    cache = read(model, text)
    quoted = QUESTION + tokens
    assert answer(model, cache, quoted=quoted, stop_ids=frozenset({stop})) == expected
    assert cache.length == LENGTH + len(QUESTION) + len(expected) - 1


def test_sampling_uses_no_drafts(model: NSAForCausalLM, text: list[int]) -> None:
    cache = read(model, text)
    runs = count_tokens(model)
    answer(model, cache, quoted=QUESTION + [1] * 50, temperature=1.0)
    assert runs == [len(QUESTION) - 1] + [1] * ANSWER


@pytest.mark.parametrize(
    ("emulated", "int8", "most"),
    [(True, False, 1), (True, True, 3), (False, False, 9), (False, True, 9)],
)
def test_number_of_drafts(
    emulated: bool, int8: bool, most: int, model: NSAForCausalLM, text: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """No drafts where several tokens cost as much as one after another."""
    model = model.to(torch.bfloat16).requires_grad_(False)
    if int8:
        quantize(model)
    monkeypatch.setattr(generate, "emulated", lambda *_: emulated)

    def fresh() -> KVCache:
        cache = KVCache(model.config, LENGTH + len(QUESTION) + 60, dtype=model.dtype)
        list(prefill(model, text, cache))
        return cache

    tokens = answer(model, fresh())
    cache = fresh()
    runs = count_tokens(model)
    answer(model, cache, quoted=QUESTION + tokens)
    assert max(runs[1:]) == most


def test_a_full_cache_uses_no_drafts(model: NSAForCausalLM, text: list[int]) -> None:
    tokens = answer(model, read(model, text))
    cache = KVCache(model.config, LENGTH + len(QUESTION) + ANSWER - 1)
    list(prefill(model, text, cache))
    assert answer(model, cache, quoted=QUESTION + tokens + tokens) == tokens


@pytest.mark.parametrize(
    ("ids", "draft"),
    [
        ([1, 2, 3, 4, 5, 1, 2, 3], [4, 5, 1]),
        ([1, 2, 3, 7, 1, 2, 3, 8, 9, 1, 2, 3], [8, 9, 1]),  # the last match
        ([9, 2, 3, 7, 8, 1, 2, 3], [7, 8, 1]),  # two tokens match, three do not
        ([1, 2, 3, 7, 9, 2, 3, 8, 1, 2, 3], [7, 9, 2]),  # a match of three precedes a match of two
        ([5, 5, 5, 5], [5]),
        ([1, 2, 3], []),
        ([3, 3], []),
        ([3], []),
    ],
)
def test_drafts(ids: list[int], draft: list[int]) -> None:
    assert PromptLookup(np.array(ids, dtype=np.int32)).draft(3) == draft
    grown = PromptLookup(np.array(ids[:1], dtype=np.int32))
    for token in ids[1:]:
        grown.append(token)
    assert grown.draft(3) == draft
    assert grown.draft(0) == []


def test_a_lookup_grows() -> None:
    lookup = PromptLookup(np.array([1, 2], dtype=np.int32))
    for token in range(500):
        lookup.append(token % 7)
    assert lookup.draft(4) == [(499 + i) % 7 for i in range(1, 5)]


def test_likeliest_tokens(model: NSAForCausalLM, text: list[int]) -> None:
    options = DecodeOptions(max_tokens=5, stop_ids=frozenset(), logprobs=2)
    plain = answer(model, read(model, text), max_tokens=5)
    found = list(decode(model, QUESTION, read(model, text), options))
    assert [step.id for step in found] == plain
    for step in found:
        assert step.top[0] == (step.id, step.logprob)
        assert step.top[0][1] >= step.top[1][1]
    free = next(decode(model, QUESTION, read(model, text), replace(options, logprobs=None)))
    assert (free.logprob, free.top) == (None, ())


class _Odd:
    """A grammar of odd tokens."""

    def __init__(self) -> None:
        self.accepted: list[int] = []

    def allowed(self, size: int) -> torch.Tensor:
        return torch.arange(size) % 2 == 1

    def accept(self, token: int) -> None:
        self.accepted.append(token)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_grammar(temperature: float, model: NSAForCausalLM, text: list[int]) -> None:
    grammar = _Odd()
    options = DecodeOptions(
        max_tokens=9, stop_ids=frozenset(), temperature=temperature, seed=1, grammar=grammar
    )
    found = [step.id for step in decode(model, QUESTION, read(model, text), options, quoted=text)]
    assert grammar.accepted == found
    assert all(token % 2 for token in found)


def test_the_nucleus() -> None:
    probs = torch.tensor([[0.5, 0.3, 0.15, 0.05], [0.1, 0.2, 0.3, 0.4]])
    expected = torch.tensor([[0.5, 0.3, 0, 0], [0, 0, 0.3, 0.4]])
    assert torch.equal(_nucleus(probs, 0.6), expected)
    assert _nucleus(probs, 1e-9).count_nonzero(dim=-1).tolist() == [1, 1]


def test_the_layers_of_a_chunk_are_reported(model: NSAForCausalLM, text: list[int]) -> None:
    """Two layers: half of each chunk's tokens after the first, all after the second."""
    cache, told = KVCache(model.config, LENGTH), list[int]()
    done = [list(told) for _ in prefill(model, text, cache, chunk_size=256, on_tokens=told.append)]
    assert told == [128, 256, 384, 512, 612, 713]
    assert [len(each) for each in done] == [2, 4, 6]
    assert not any(layer._forward_hooks for layer in model.model.layers)
    whole = read(model, text, 256)
    assert torch.equal(cache.keys[0][:, :, :LENGTH], whole.keys[0][:, :, :LENGTH])
