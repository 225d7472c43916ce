"""Convert the vocabulary of a GGUF file to a Hugging Face tokenizer."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

from nsa_models.errors import ModelError
from nsa_models.gguf.config import token_ids
from nsa_models.gguf.file import GGUFFile
from nsa_models.tokenization.byte_level import (
    LLAMA3_PATTERN,
    QWEN2_PATTERN,
    byte_level,
    digits_then_gpt2,
    split_then_bytes,
)

_CONTROL = 3
_USER_DEFINED = 4
_UNUSED = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class _PreTokenization:
    """Pre-tokenization of one tokenizer family.

    Attributes:
        pre_tokenizer: The `pre_tokenizer` of `tokenizer.json`.
        nfc: Whether the text is normalized to NFC first.
        ignore_merges: Whether a word in the vocabulary skips merging.
    """

    pre_tokenizer: dict[str, Any]
    nfc: bool = False
    ignore_merges: bool = False


_LLAMA3 = _PreTokenization(pre_tokenizer=split_then_bytes(LLAMA3_PATTERN), ignore_merges=True)
_GPT2 = _PreTokenization(pre_tokenizer=byte_level(use_regex=True))

PRE_TOKENIZATIONS = {
    "qwen2": _PreTokenization(pre_tokenizer=split_then_bytes(QWEN2_PATTERN), nfc=True),
    "llama-bpe": _LLAMA3,
    "llama3": _LLAMA3,
    "smollm": _PreTokenization(pre_tokenizer=digits_then_gpt2()),
    "gpt-2": _GPT2,
    "gpt2": _GPT2,
}
"""Pre-tokenizations by the value of `tokenizer.ggml.pre`."""


def tokenizer_files(gguf: GGUFFile) -> dict[str, dict[str, Any]]:
    """Return `tokenizer.json`, `tokenizer_config.json` and `generation_config.json` by file name.

    Raises:
        ModelError: With code `model_unsupported` when the vocabulary is not byte-level BPE or
            its pre-tokenizer is unknown.
    """
    facts = gguf.facts
    kind = facts.get("tokenizer.ggml.model")
    tokens = facts.get("tokenizer.ggml.tokens")
    merges = facts.get("tokenizer.ggml.merges")
    if kind != "gpt2" or not tokens or not merges:
        raise _unsupported(gguf, f"a tokenizer of kind {kind!r}", "byte-level BPE ('gpt2')")
    pre = facts.get("tokenizer.ggml.pre")
    if pre not in PRE_TOKENIZATIONS:
        raise _unsupported(gguf, f"the pre-tokenizer {pre!r}", ", ".join(PRE_TOKENIZATIONS))
    family = PRE_TOKENIZATIONS[pre]
    types = facts.get("tokenizer.ggml.token_type")
    types = [1] * len(tokens) if types is None else types.tolist()
    if len(types) != len(tokens):
        raise _unsupported(gguf, f"{len(types)} token types for {len(tokens)} tokens", "one each")
    added = {
        index: token
        for index, (token, token_type) in enumerate(zip(tokens, types, strict=True))
        if token_type in (_CONTROL, _USER_DEFINED)
    }
    ids = token_ids(gguf)
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            _added_token(index, token, special=types[index] == _CONTROL)
            for index, token in added.items()
        ],
        "normalizer": {"type": "NFC"} if family.nfc else None,
        "pre_tokenizer": copy.deepcopy(family.pre_tokenizer),
        "post_processor": _post_processor(gguf, tokens, ids),
        "decoder": byte_level(use_regex=False),
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": family.ignore_merges,
            # Embedding rows without a token are named [PAD…] and marked unused.
            "vocab": {
                token: index for index, token in enumerate(tokens) if types[index] != _UNUSED
            },
            "merges": merges,
        },
    }
    return {
        "tokenizer.json": tokenizer,
        "tokenizer_config.json": _tokenizer_config(gguf, tokens, added, types, ids),
        "generation_config.json": _generation_config(gguf, ids),
    }


def _added_token(index: int, token: str, *, special: bool) -> dict[str, Any]:
    return {
        "id": index,
        "content": token,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": special,
    }


def _post_processor(gguf: GGUFFile, tokens: list[str], ids: dict[str, Any]) -> dict[str, Any]:
    if not gguf.facts.get("tokenizer.ggml.add_bos_token") or "bos_token_id" not in ids:
        return byte_level(use_regex=False)
    bos = tokens[ids["bos_token_id"]]
    first = {"SpecialToken": {"id": bos, "type_id": 0}}
    text = [{"Sequence": {"id": name, "type_id": 0}} for name in ("A", "B")]
    return {
        "type": "TemplateProcessing",
        "single": [first, text[0]],
        "pair": [first, text[0], text[1]],
        "special_tokens": {bos: {"id": bos, "ids": [ids["bos_token_id"]], "tokens": [bos]}},
    }


def _tokenizer_config(
    gguf: GGUFFile,
    tokens: list[str],
    added: dict[int, str],
    types: list[int],
    ids: dict[str, Any],
) -> dict[str, Any]:
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "add_bos_token": bool(gguf.facts.get("tokenizer.ggml.add_bos_token", False)),
        "model_max_length": int(gguf.facts[f"{gguf.facts['general.architecture']}.context_length"]),
        "added_tokens_decoder": {
            str(index): {
                key: value
                for key, value in _added_token(
                    index, token, special=types[index] == _CONTROL
                ).items()
                if key != "id"
            }
            for index, token in added.items()
        },
    }
    for key, token_id in ids.items():
        if not 0 <= token_id < len(tokens):
            raise _unsupported(gguf, f"{key} {token_id}", f"0 to {len(tokens) - 1}")
        config[key.removesuffix("_id")] = tokens[token_id]
    template = gguf.facts.get("tokenizer.chat_template")
    if template:
        config["chat_template"] = template
    return config


def _generation_config(gguf: GGUFFile, ids: dict[str, Any]) -> dict[str, Any]:
    ends = [gguf.facts.get(f"tokenizer.ggml.{name}_token_id") for name in ("eos", "eot", "eom")]
    distinct = list(dict.fromkeys(int(end) for end in ends if end is not None))
    return {**ids, "eos_token_id": distinct} if distinct else dict(ids)


def _unsupported(gguf: GGUFFile, found: str, supported: str) -> ModelError:
    return ModelError(
        f"{gguf.path.name} has {found}, supported: {supported}",
        hint="use the model's Hugging Face folder instead of its GGUF file",
        code="model_unsupported",
    )
