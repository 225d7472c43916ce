"""A tokenizer for a model that is trained from scratch."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from nsa_models.paths import atomic_write
from nsa_models.tokenization.byte_level import QWEN2_PATTERN, split_then_bytes

END = "<|endoftext|>"
"""The token after each document."""


def train_tokenizer(texts: Iterable[str], vocabulary: int, folder: Path) -> None:
    """Train a byte-level BPE tokenizer and write its files to a folder.

    It encodes every text without loss: each byte is a token.

    Args:
        texts: Texts to train on.
        vocabulary: Most tokens, the end token included.
        folder: The folder, which exists.
    """
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers, trainers

    library = tokenizers.Tokenizer(models.BPE())
    library.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(QWEN2_PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    library.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    library.train_from_iterator(texts, trainer)
    values = json.loads(library.to_str())
    values["pre_tokenizer"] = split_then_bytes(QWEN2_PATTERN)
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": END,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 10**9,
    }
    for name, content in (("tokenizer.json", values), ("tokenizer_config.json", config)):
        with atomic_write(folder / name) as path:
            path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
