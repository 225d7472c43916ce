"""Writes token shards of facts that are stated and repeated, for the end of a training.

    python examples/recall_shards.py OUT --shards SHARDS --context 16384 --tokens 9000000

Each document has exactly `--context` tokens, so that each row of `nsa pretrain --last-shards` is
one document. The noise between the facts are lines of documents that SHARDS trains on. OUT gets
the tokenizer of SHARDS.
"""

from __future__ import annotations

import argparse
import shutil
from functools import lru_cache
from pathlib import Path

import numpy as np

from nsa_cli.training.text_shards import TOKENIZER_FILES
from nsa_models.tasks.recall import recall_training_text
from nsa_models.tokenization.tokenizer import Tokenizer
from nsa_models.training.shards import ShardWriter, TokenDocuments, open_shards

MOST_OF_LINE = 64
"""Tokens of the longest line of noise."""


def noise_of(
    documents: TokenDocuments, tokenizer: Tokenizer, tokens: int, seed: int = 0
) -> list[list[int]]:
    """Return lines of documents as token ids, from random places of as many as possible.

    Args:
        documents: The documents.
        tokenizer: Their tokenizer.
        tokens: Tokens of all lines, at least.
        seed: Seed of the choice.
    """
    rng = np.random.default_rng(seed)
    lines: list[list[int]] = []
    found = 0
    while found < tokens:
        document = int(rng.integers(len(documents.lengths)))
        length = int(documents.lengths[document]) - 1
        start = int(rng.integers(max(1, length - 2048)))
        text = tokenizer.decode(documents.tokens(document, start, min(length, start + 2048)))
        for line in text.split("\n")[1:-1]:
            ids = [int(n) for n in tokenizer.encode(f"{line.rstrip()}\n")][-MOST_OF_LINE:]
            if line.strip():
                lines.append(ids)
                found += len(ids)
    return lines


def main() -> None:
    """Write the shards."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--shards", type=Path, required=True)
    parser.add_argument("--context", type=int, default=16_384)
    parser.add_argument("--tokens", type=int, required=True, help="tokens of all documents")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    shards = open_shards([args.shards])
    tokenizer = Tokenizer.from_folder(args.shards)

    @lru_cache(maxsize=1 << 16)
    def encode(text: str) -> tuple[int, ...]:
        return tuple(int(n) for n in tokenizer.encode(text))

    noise = noise_of(shards.train, tokenizer, args.tokens, args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    for name in TOKENIZER_FILES:
        if (args.shards / name).is_file():
            shutil.copyfile(args.shards / name, args.out / name)
    writer = ShardWriter(
        args.out,
        tokenizer=tokenizer.fingerprint,
        vocab_size=shards.index.vocab_size,
        end_id=shards.index.end_id,
    )
    answers = 0
    count = -(-args.tokens // args.context)
    for number in range(count):
        text = recall_training_text(
            noise, encode, tokens=args.context - 1, seed=args.seed * 1_000_000 + number
        )
        writer.add("train", text.ids)
        answers += len(text.answers)
    index = writer.close()
    print(
        f"{args.out}: {index.tokens['train']:,} tokens in {count:,} documents, "
        f"{answers / count:.0f} answers in each"
    )


if __name__ == "__main__":
    main()
