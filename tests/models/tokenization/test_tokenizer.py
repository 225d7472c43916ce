"""The tokenizer of a Hugging Face folder."""

from __future__ import annotations

import json
import pickle
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from nsa_models.errors import ModelError
from nsa_models.gguf.file import read_gguf
from nsa_models.gguf.tokenizer import tokenizer_files
from nsa_models.tokenization.tokenizer import Tokenizer

TEXTS = [
    "The quick brown fox isn't lazy; it'll jump, WON'T it? " * 20,
    "def f(x):\n\tif x  :\n        return {'a': [1, 22, 333, 4444]}\n\n\n\n# done   \n" * 20,
    "你好，世界。人工智能改变世界！１２３ 吾輩は猫である。안녕하세요 세계 " * 20,
    "naïve cafe\u0301 — déjà vu… 😀👩‍👩‍👧‍👦🇩🇪🚀 Ω≈ç√∫ مرحبا בעולם",
    " " * 5000 + "x" + "\n" * 5000 + "7" + "a" * 5000,
]


@pytest.fixture
def folder(write_gguf: Any, tmp_path: Path) -> Path:
    """A folder with the small vocabulary and Qwen's splitting pattern."""
    path = write_gguf(tmp_path / "small.gguf", facts={"qwen2.context_length": 64})
    folder = tmp_path / "model"
    folder.mkdir()
    for name, content in tokenizer_files(read_gguf(path)).items():
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    return folder


def change(path: Path, **values: Any) -> None:
    """Replace values of a JSON file; None removes them."""
    content = json.loads(path.read_text()) | values
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))


def test_round_trip(folder: Path) -> None:
    tokenizer = Tokenizer.from_folder(folder)
    assert tokenizer.backend == "tiktoken"
    for text in TEXTS:
        assert tokenizer.decode(tokenizer.encode(text)) == unicodedata.normalize("NFC", text)


def test_text_is_normalized_first(folder: Path) -> None:
    tokenizer = Tokenizer.from_folder(folder)
    assert tokenizer.normalize("e\u0301") == "é"
    assert tokenizer.encode("e\u0301").tolist() == tokenizer.encode("é").tolist()
    with pytest.raises(ValueError, match="normalized first"):
        tokenizer.encode_with_offsets("e\u0301")


def test_without_a_normalizer_text_stays_unchanged(folder: Path) -> None:
    change(folder / "tokenizer.json", normalizer=None)
    tokenizer = Tokenizer.from_folder(folder)
    assert tokenizer.normalize("e\u0301") == "e\u0301"
    ids, starts = tokenizer.encode_with_offsets("e\u0301")
    assert tokenizer.decode(ids) == "e\u0301"
    assert starts[0] == 0


def test_offsets_locate_the_tokens(folder: Path) -> None:
    tokenizer = Tokenizer.from_folder(folder)
    text = tokenizer.normalize("".join(TEXTS))
    ids, starts = tokenizer.encode_with_offsets(text)
    assert (np.diff(starts) >= 0).all()
    whole = [index for index in range(1, len(starts)) if starts[index] > starts[index - 1]]
    for index in whole:
        spelled = tokenizer.decode_bytes(ids[index])
        character = text[starts[index]].encode()
        assert (
            spelled.startswith(character)
            or character.startswith(spelled)
            or (
                # The token starts inside the character.
                spelled[:1] in {character[at : at + 1] for at in range(1, len(character))}
            )
        )


def test_special_tokens_count_only_in_templates(folder: Path) -> None:
    tokenizer = Tokenizer.from_folder(folder)
    text = "<|im_start|>user\nhello<|im_end|>"
    plain = tokenizer.encode(text)
    special = tokenizer.encode_template(text)
    assert not set(plain.tolist()) & tokenizer.stop_ids
    assert special[-1] in tokenizer.stop_ids
    assert tokenizer.decode(special) == tokenizer.decode(plain) == text
    assert special.dtype == np.int32


def test_template_ids_are_the_librarys(folder: Path) -> None:
    library = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    text = "<|im_start|>user\nhello  <|im_end|>\n<|endoftext|><|endoftext|> x"
    expected = library.encode(text, add_special_tokens=False).ids
    assert Tokenizer.from_folder(folder).encode_template(text).tolist() == expected


def test_empty_text(folder: Path) -> None:
    tokenizer = Tokenizer.from_folder(folder)
    assert tokenizer.encode("").tolist() == []
    assert [part.tolist() for part in tokenizer.encode_with_offsets("")] == [[], []]
    assert tokenizer.encode_template("").tolist() == []
    assert tokenizer.decode([]) == ""


def test_an_incomplete_character(folder: Path) -> None:
    tokenizer = Tokenizer.from_folder(folder)
    ids = tokenizer.encode("𐍈")
    assert tokenizer.decode(ids[:2]) == "\ufffd"
    assert b"".join(map(tokenizer.decode_bytes, ids.tolist())) == "𐍈".encode()


def test_ids_beyond_the_vocabulary_decode_to_nothing(folder: Path) -> None:
    tokenizer = Tokenizer.from_folder(folder)
    assert tokenizer.decode_bytes(tokenizer.vocab_size) == b""


def test_unused_rows_are_not_tokens(folder: Path) -> None:
    vocabulary = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    tokenizer = Tokenizer.from_folder(folder)
    assert "[PAD0]" not in vocabulary
    assert tokenizer.vocab_size == len(vocabulary)


def test_stop_ids_of_all_files(folder: Path) -> None:
    tokenizer = Tokenizer.from_folder(folder)
    [end] = tokenizer.encode_template("<|im_end|>").tolist()
    [text_end] = tokenizer.encode_template("<|endoftext|>").tolist()
    assert tokenizer.stop_ids == {end, text_end}
    change(folder / "generation_config.json", eos_token_id=[7, 8])
    (folder / "config.json").write_text('{"eos_token_id": 9}')
    change(folder / "tokenizer_config.json", eos_token={"content": "a"})
    [letter] = tokenizer.encode("a").tolist()
    assert Tokenizer.from_folder(folder).stop_ids == {end, text_end, letter, 7, 8, 9}


def test_chat_frame(folder: Path) -> None:
    frame = Tokenizer.from_folder(folder).chat_frame("Be brief.")
    assert frame.before == "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n"
    assert frame.after == "<|im_end|>\n<|im_start|>assistant\n"


def test_a_template_file_takes_precedence(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("<{{ messages[0].content }}>")
    frame = Tokenizer.from_folder(folder).chat_frame()
    assert (frame.before, frame.after) == ("<", ">")


def test_the_default_of_several_templates(folder: Path) -> None:
    templates = [
        {"name": "tool_use", "template": "tools"},
        {"name": "default", "template": "[{{ messages[0].content }}]"},
    ]
    change(folder / "tokenizer_config.json", chat_template=templates)
    assert Tokenizer.from_folder(folder).chat_frame().before == "["


def test_no_template(folder: Path) -> None:
    change(folder / "tokenizer_config.json", chat_template=None)
    tokenizer = Tokenizer.from_folder(folder)
    assert not tokenizer.has_template
    assert not tokenizer.chat_frame("Be brief.").has_template


def test_fingerprint_follows_the_vocabulary(folder: Path) -> None:
    first = Tokenizer.from_folder(folder).fingerprint
    assert Tokenizer.from_folder(folder).fingerprint == first
    change(folder / "tokenizer.json", normalizer=None)
    assert Tokenizer.from_folder(folder).fingerprint != first


def test_unknown_patterns_fall_back_to_the_library(folder: Path) -> None:
    text = "".join(TEXTS[:3]) + "<|im_end|>"
    content = json.loads((folder / "tokenizer.json").read_text())
    fast = Tokenizer.from_folder(folder)
    pattern = content["pre_tokenizer"]["pretokenizers"][0]["pattern"]
    pattern["Regex"] = f"(?:{pattern['Regex']})"
    change(folder / "tokenizer.json", pre_tokenizer=content["pre_tokenizer"])
    slow = Tokenizer.from_folder(folder)
    assert slow.backend == "tokenizers"
    for left, right in zip(
        fast.encode_with_offsets(text), slow.encode_with_offsets(text), strict=True
    ):
        assert left.tolist() == right.tolist()
    assert slow.encode_template(text).tolist() == fast.encode_template(text).tolist()
    assert slow.decode(slow.encode(text)) == text


def test_sentencepiece_vocabularies_work(folder: Path) -> None:
    pieces = [["<unk>", 0.0], ["▁hello", -1.0], ["▁world", -1.5], *_byte_pieces()]
    change(
        folder / "tokenizer.json",
        added_tokens=[],
        normalizer=None,
        pre_tokenizer={"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always"},
        decoder={"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always"},
        model={"type": "Unigram", "unk_id": 0, "vocab": pieces, "byte_fallback": True},
    )
    change(folder / "tokenizer_config.json", eos_token=None, chat_template=None)
    tokenizer = Tokenizer.from_folder(folder)
    assert tokenizer.backend == "tokenizers"
    ids = tokenizer.encode("hello world")
    assert ids.tolist() == [1, 2]
    assert tokenizer.decode(ids) == " hello world"
    assert tokenizer.decode_bytes(3 + ord("\n")) == b"\n"


def _byte_pieces() -> list[list[Any]]:
    return [[f"<0x{byte:02X}>", -9.0] for byte in range(256)]


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (None, "model_missing"),
        ("{", "model_broken"),
        ("[]", "model_broken"),
        ("{}", "model_broken"),
    ],
)
def test_missing_and_broken_files(folder: Path, content: str | None, code: str) -> None:
    path = folder / "tokenizer.json"
    path.unlink()
    if content is not None:
        path.write_text(content)
    with pytest.raises(ModelError, match=r"cannot read .*tokenizer\.json") as caught:
        Tokenizer.from_folder(folder)
    assert caught.value.code == code


def _library(folder: Path) -> tokenizers.Tokenizer:
    content = json.loads((folder / "tokenizer.json").read_text())
    return tokenizers.Tokenizer.from_str(
        json.dumps(content | {"added_tokens": [], "post_processor": None})
    )


@pytest.mark.model
@pytest.mark.parametrize("model", ["default_model_folder", "smollm_folder"])
def test_real_vocabularies_match_the_library(model: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(model)
    tokenizer, library = Tokenizer.from_folder(folder), _library(folder)
    assert tokenizer.backend == "tiktoken"

    def compare(text: str) -> None:
        text = tokenizer.normalize(text)
        expected = library.encode(text)
        ids, starts = tokenizer.encode_with_offsets(text)
        assert ids.tolist() == expected.ids
        assert starts.tolist() == [start for start, _ in expected.offsets]

    for text in TEXTS:
        compare(text)
    compare(Path(__file__).read_text())
    # SmolLM2's vocabulary lacks some control characters and the rarest planes. The library
    # removes them before merging; tiktoken cannot.
    characters = st.characters(exclude_categories=["Cs", "Cc", "Cn", "Co"])

    @settings(max_examples=300, deadline=None)
    @given(st.text(characters, max_size=60))
    def compare_any(text: str) -> None:
        compare(text)

    compare_any()


@pytest.mark.model
def test_the_default_tokenizer_loads(default_model_folder: Path) -> None:
    tokenizer = Tokenizer.from_folder(default_model_folder)
    assert tokenizer.vocab_size == 151_665
    assert tokenizer.stop_ids == {151_643, 151_645}


@pytest.mark.model
def test_the_default_chat_template(default_model_folder: Path) -> None:
    frame = Tokenizer.from_folder(default_model_folder).chat_frame("Be brief.")
    assert frame.before == "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n"
    assert frame.after == "<|im_end|>\n<|im_start|>assistant\n"


def test_a_pickled_tokenizer_is_the_same(folder: Path) -> None:
    """Processes that are spawned get the tokenizer so."""
    tokenizer = Tokenizer.from_folder(folder)
    copy = pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(tokenizer))))
    text = "The harbour, 1871: Grüße \n\t 東京"
    assert copy.encode(text).tolist() == tokenizer.encode(text).tolist() != []
    ids, starts = tokenizer.encode_with_offsets(text)
    assert [each.tolist() for each in copy.encode_with_offsets(text)] == [
        ids.tolist(),
        starts.tolist(),
    ]
