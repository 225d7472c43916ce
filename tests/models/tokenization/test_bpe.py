"""tiktoken's ids against the `tokenizers` library's ids."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from nsa_models.gguf.file import read_gguf
from nsa_models.gguf.tokenizer import tokenizer_files
from nsa_models.tokenization import bpe
from nsa_models.tokenization.bpe import ByteLevelBPE, chunks, merge_ranks
from nsa_models.tokenization.byte_level import SMOLLM_PATTERN

FAMILIES = ("qwen2", "llama-bpe", "smollm", "gpt-2")
SAMPLES = [
    "",
    "The quick brown fox isn't lazy; it'll jump, WON'T it?",
    "def f(x):\n\tif x  :\n        return {'a': [1, 22, 333, 4444]}\n\n\n\n# done   \n",
    "你好，世界。人工智能改变世界！１２３",
    "naïve café — déjà vu… Привет, мир",
    "😀👩‍👩‍👧‍👦🇩🇪🚀\u200d",
    "  two  spaces\t\ttabs \r\n\r\n  1 2 33 \n 444   5555",
    "...\n\n...\r\n  \n \n",
    "<|im_end|><|endoftext|>",
    "\x00\x1c\x1d\x85\xa0\u2028\u3000x",
    "e\u0301 \u0301\u0301 ½ ² Ⅷ ٣",
]
PIECES = st.sampled_from(
    [
        *(" ", "  ", "\n", "\r\n", "\t", "\u3000", "\x1c", "\u200d"),
        *(".", "...", "。", "_", "-", "'s", "'LL", "<|im_end|>", "😀"),
        *("a", "Z", "the", "世界", "é", "e\u0301", "ſ", "1", "23", "½"),
    ]
)
TEXTS = st.one_of(st.lists(PIECES, max_size=40).map("".join), st.text(max_size=60))
MODERATE = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

Pair = tuple[ByteLevelBPE, tokenizers.Tokenizer]


def without_added_tokens(tokenizer: dict[str, Any]) -> tokenizers.Tokenizer:
    """The library's tokenizer without added tokens."""
    plain = tokenizer | {"added_tokens": [], "post_processor": None, "normalizer": None}
    return tokenizers.Tokenizer.from_str(json.dumps(plain))


@pytest.fixture(scope="module")
def pairs(write_gguf: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pair]:
    """Our encoder and the library's for each family of patterns, with the small vocabulary."""
    folder = tmp_path_factory.mktemp("vocabularies")
    made = {}
    for pre in FAMILIES:
        path = write_gguf(folder / f"{pre}.gguf", pre=pre, facts={"qwen2.context_length": 64})
        tokenizer = tokenizer_files(read_gguf(path))["tokenizer.json"]
        ranks = merge_ranks(tokenizer)
        assert ranks is not None
        made[pre] = (ByteLevelBPE(*ranks), without_added_tokens(tokenizer))
    return made


def assert_same(pair: Pair, text: str) -> None:
    """Assert that ids and offsets equal the library's."""
    ours, library = pair
    expected = library.encode(text, add_special_tokens=False)
    assert ours.encode(text).tolist() == expected.ids
    ids, starts = ours.encode_with_offsets(text)
    assert ids.tolist() == expected.ids
    assert starts.tolist() == [start for start, _ in expected.offsets]
    assert (ids.dtype, starts.dtype) == (np.int32, np.int64)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("text", SAMPLES)
def test_samples_match(pairs: dict[str, Pair], family: str, text: str) -> None:
    assert_same(pairs[family], text)


@pytest.mark.parametrize("family", FAMILIES)
@MODERATE
@given(text=TEXTS)
def test_any_text_matches(pairs: dict[str, Pair], family: str, text: str) -> None:
    assert_same(pairs[family], text)


@pytest.mark.parametrize("family", FAMILIES)
@MODERATE
@given(text=TEXTS)
@example("spaces...\n\n\n  x.\n\n\n\n")
@example("(...)\n\n \n\n   7;\r\n\r\n")
def test_cuts_and_long_runs_change_nothing(pairs: dict[str, Pair], family: str, text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bpe, "CHUNK_CHARACTERS", 3)
        patch.setattr(bpe, "_LONG_RUN", re.compile(bpe._SPACE_CLASS + "{2,}"))
        assert_same(pairs[family], text)


@pytest.mark.parametrize(
    "family",
    [FAMILIES[0], *(pytest.param(name, marks=pytest.mark.long) for name in FAMILIES[1:])],
)
@pytest.mark.parametrize(
    "text",
    [
        "a" * 200_000,
        " " * 1_200_000,
        " " * 1_200_000 + "x",
        "\t" * 1_200_000 + "7",
        "x." + "\n" * 600_000 + " " * 600_000 + "y",
        "世界" * 100_000,
    ],
    ids=["letters", "spaces", "spaces-x", "tabs-7", "lines-spaces", "cjk"],
)
def test_monotonous_text_matches(pairs: dict[str, Pair], family: str, text: str) -> None:
    ours, library = pairs[family]
    assert ours.encode(text).tolist() == library.encode(text).ids


def test_chunks_join_to_the_text() -> None:
    text = "word " * 50_000
    pieces = list(chunks(text))
    assert "".join(pieces) == text
    assert len(pieces) == 4
    assert all(piece.startswith(" word") for piece in pieces[1:])


def test_text_without_a_safe_cut_is_one_chunk() -> None:
    text = "=" * 300_000
    assert list(chunks(text)) == [text]


def test_offsets_inside_a_character(pairs: dict[str, Pair]) -> None:
    ours, _ = pairs["qwen2"]
    ids, starts = ours.encode_with_offsets("a𐍈b")
    assert len(ids) == 6, "no two of its four bytes are merged"
    assert starts.tolist() == [0, 1, 1, 1, 1, 2]


def test_a_lone_surrogate_is_replaced(pairs: dict[str, Pair]) -> None:
    ours, library = pairs["qwen2"]
    assert ours.encode("a\ud800b").tolist() == library.encode("a\ufffdb").ids
    _, starts = ours.encode_with_offsets("a\ud800b")
    assert starts.tolist() == [0, 1, 1, 1, 2]


def test_a_byte_outside_the_vocabulary_is_skipped() -> None:
    encoder = ByteLevelBPE(SMOLLM_PATTERN, {b"a": 5, b"b": 7})
    ids, starts = encoder.encode_with_offsets("axb")
    assert ids.tolist() == [5, 7]
    assert starts.tolist() == [0, 2]
    assert encoder.encode("axb").tolist() == [5, 7]


@pytest.fixture
def plain(write_gguf: Any, tmp_path: Path) -> dict[str, Any]:
    """A `tokenizer.json` that is recognized."""
    path = write_gguf(tmp_path / "plain.gguf", facts={"qwen2.context_length": 64})
    return tokenizer_files(read_gguf(path))["tokenizer.json"]


def test_merges_may_be_pairs(plain: dict[str, Any]) -> None:
    text = "The quick brown fox"
    from_strings = merge_ranks(plain)
    plain["model"]["merges"] = [merge.split(" ") for merge in plain["model"]["merges"]]
    assert from_strings is not None
    assert merge_ranks(plain) == from_strings
    assert ByteLevelBPE(*from_strings).encode(text).tolist()


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("model", {"type": "Unigram"}),
        ("model", {"byte_fallback": True}),
        ("model", {"unk_token": "<unk>"}),
        ("normalizer", {"type": "Lowercase"}),
        ("pre_tokenizer", {"type": "Metaspace"}),
        ("pre_tokenizer", {"type": "ByteLevel", "add_prefix_space": True, "use_regex": True}),
    ],
)
def test_other_kinds_are_not_recognized(
    plain: dict[str, Any], part: str, change: dict[str, Any]
) -> None:
    assert merge_ranks(plain) is not None
    plain[part] = {**plain[part], **change} if part == "model" else change
    assert merge_ranks(plain) is None


def test_an_unknown_pattern_is_not_recognized(plain: dict[str, Any]) -> None:
    plain["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] += "|x"
    assert merge_ranks(plain) is None


def test_merges_that_contradict_the_ids_are_not_recognized(plain: dict[str, Any]) -> None:
    plain["model"]["merges"].reverse()
    assert merge_ranks(plain) is None


def test_words_without_merges_are_not_recognized(plain: dict[str, Any]) -> None:
    plain["model"]["ignore_merges"] = True
    assert merge_ranks(plain) is not None
    plain["model"]["vocab"]["unmerged"] = 9999
    assert merge_ranks(plain) is None


def test_an_added_token_that_strips_spaces_is_not_recognized(plain: dict[str, Any]) -> None:
    plain["added_tokens"][0]["lstrip"] = True
    assert merge_ranks(plain) is None
