"""`nsa shards`: documents from JSON Lines and folders of text become token shards."""

from __future__ import annotations

import gzip
import hashlib
import json
import lzma
import os
import re
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

from nsa_cli.documents.decoding import decode
from nsa_cli.documents.errors import UnreadableError
from nsa_cli.documents.walk import files_of
from nsa_cli.training.new_tokenizer import train_tokenizer
from nsa_models.errors import DataError, UsageError
from nsa_models.tokenization.tokenizer import Tokenizer
from nsa_models.training.shards import INDEX, SPLITS, ShardIndex, ShardWriter

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
_COMPRESSED = (".gz", ".xz")
_SHARD_FILE = re.compile(r"\d{5}(\.ends)?\.npy")
_TOGETHER = 256
"""Documents that are encoded before the next are read."""

_NOTE_SECONDS = 5.0
_SAMPLE_CHARACTERS = 32_000_000
_SAMPLE_OF_DOCUMENT = 100_000
_HASHES = 2**64


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardPlan:
    """Settings of `nsa shards`.

    Attributes:
        out: Folder for the shards.
        sources: JSON Lines files, text files and folders.
        field: Key of the text in a line of JSON Lines.
        tokenizer: Folder of an existing tokenizer; None to train one.
        vocabulary: Number of tokens of a trained tokenizer.
        heldout: Share of the documents that are held out, chosen by their content.
    """

    out: Path
    sources: tuple[Path, ...]
    field: str = "text"
    tokenizer: Path | None = None
    vocabulary: int = 16_384
    heldout: float = 0.01


@dataclass(slots=True)
class ShardReport:
    """Result of `nsa shards`.

    Attributes:
        index: Counts of documents and tokens.
        text_bytes: Bytes of the documents' text in UTF-8.
        skipped: Number of files that were not read, by reason.
    """

    index: ShardIndex
    text_bytes: int
    skipped: Counter[str] = field(default_factory=Counter)


def make_shards(plan: ShardPlan, on_note: Callable[[str], None]) -> ShardReport:
    """Write the shards of the plan's sources, and the tokenizer beside them.

    Args:
        plan: Settings.
        on_note: Called with what happens next, for the user.

    Raises:
        DataError: If a source is missing or malformed, or has no text.
        UsageError: If the folder has shards already.
        ModelError: If the tokenizer cannot be read.
    """
    if (plan.out / INDEX).exists():
        raise UsageError(
            f"{plan.out} has token shards already", hint="name another folder, or remove it"
        )
    for source in plan.sources:
        if not source.exists():
            raise DataError(f"{source} does not exist", code="missing")
    plan.out.mkdir(parents=True, exist_ok=True)
    for split in SPLITS:  # of a run that was interrupted
        for path in (plan.out / split).glob("*.npy"):
            if _SHARD_FILE.fullmatch(path.name):
                path.unlink()
    if plan.tokenizer is None:
        on_note(f"training a tokenizer of {plan.vocabulary:,} tokens")
        texts = sample(documents_of(plan, Counter()), _SAMPLE_CHARACTERS)
        if not texts:
            raise _nothing(plan)
        train_tokenizer(texts, plan.vocabulary, plan.out)
    else:
        for name in TOKENIZER_FILES:
            if (plan.tokenizer / name).is_file():
                shutil.copyfile(plan.tokenizer / name, plan.out / name)
    tokenizer = Tokenizer.from_folder(plan.out)
    report = _write(plan, tokenizer, on_note)
    if not report.index.documents["train"]:
        raise _nothing(plan)
    return report


def _nothing(plan: ShardPlan) -> DataError:
    return DataError(
        f"no text to train on in {', '.join(map(str, plan.sources))}",
        hint="name JSON Lines files with texts, or folders of text files",
        code="empty",
    )


def _write(plan: ShardPlan, tokenizer: Tokenizer, on_note: Callable[[str], None]) -> ShardReport:
    """Encode all documents and write them."""
    if not tokenizer.stop_ids:
        raise UsageError(
            f"the tokenizer in {plan.tokenizer} names no end token",
            hint="use a tokenizer whose tokenizer_config.json has an eos_token",
        )
    writer = ShardWriter(
        plan.out,
        tokenizer=tokenizer.fingerprint,
        vocab_size=tokenizer.vocab_size,
        end_id=min(tokenizer.stop_ids),
    )
    skipped: Counter[str] = Counter()
    text_bytes, documents, told = 0, 0, time.monotonic()
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for texts in _batches(documents_of(plan, skipped), _TOGETHER):
            for text, ids in zip(texts, threads.map(tokenizer.encode, texts), strict=True):
                share = _hash(text) / _HASHES
                writer.add("heldout" if share < plan.heldout else "train", ids)
                text_bytes += len(text.encode(errors="replace"))
            documents += len(texts)
            if time.monotonic() - told > _NOTE_SECONDS:
                told = time.monotonic()
                on_note(f"{documents:,} documents, {text_bytes / 1e6:,.1f} MB")
    return ShardReport(writer.close(), text_bytes, skipped)


def documents_of(plan: ShardPlan, skipped: Counter[str]) -> Iterator[str]:
    """Texts of all sources, in order, without empty ones.

    Args:
        plan: Settings.
        skipped: Counts the files that are not read, by reason.

    Raises:
        DataError: If a JSON Lines file is malformed.
    """
    for source in plan.sources:
        named = not source.is_dir()
        paths: Iterable[Path] = (source,)
        if not named:
            on_skipped = _counter(skipped)
            paths = map(Path, files_of(str(source), on_skipped))
        for path in paths:
            texts = _lines(path, plan.field) if _is_json_lines(path) else _text(path, skipped)
            yield from (text for text in texts if text.strip())


def _counter(skipped: Counter[str]) -> Callable[[str, str], None]:
    return lambda reason, _: skipped.update([reason])


def _is_json_lines(path: Path) -> bool:
    names = path.suffixes[-2:] if path.suffix in _COMPRESSED else path.suffixes[-1:]
    return bool(names) and names[0] in (".jsonl", ".ndjson")


def _opened(path: Path) -> IO[bytes]:
    if path.suffix == ".gz":
        return cast(IO[bytes], gzip.open(path, "rb"))
    if path.suffix == ".xz":
        return lzma.open(path, "rb")
    return path.open("rb")


def _lines(path: Path, key: str) -> Iterator[str]:
    """Texts of the lines of a JSON Lines file."""
    number = 0
    try:
        with _opened(path) as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                row = json.loads(line)
                text = row.get(key) if isinstance(row, dict) else None
                if not isinstance(text, str):
                    raise DataError(
                        f"{path}, line {number}: no text under {key!r}",
                        hint="name the key of the text with --field",
                        code="broken",
                    )
                yield text
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise DataError(f"cannot read {path}: {error}", code="broken") from error
    except ValueError as error:
        raise DataError(f"{path}, line {number}: not JSON ({error})", code="broken") from error


def _text(path: Path, skipped: Counter[str]) -> Iterator[str]:
    """The text of a file; nothing if it is binary or cannot be read."""
    try:
        with _opened(path) as file:
            text, _ = decode(file.read(), str(path))
    except UnreadableError:
        skipped["binary file"] += 1
    except (OSError, EOFError, lzma.LZMAError):
        skipped["file that cannot be read"] += 1
    else:
        yield text


def sample(texts: Iterable[str], characters: int) -> list[str]:
    """Up to so many characters of texts, chosen by their content and not by their order."""
    kept: list[tuple[int, str]] = []
    limit, total = _HASHES, 0
    for text in texts:
        number = _hash(text)
        if number >= limit:
            continue
        kept.append((number, text[:_SAMPLE_OF_DOCUMENT]))
        total += len(kept[-1][1])
        while total > characters and len(kept) > 1:
            limit //= 2
            kept = [each for each in kept if each[0] < limit] or [min(kept)]
            total = sum(len(each) for _, each in kept)
    return [text for _, text in kept]


def _hash(text: str) -> int:
    """A number below `_HASHES` that follows from the text; equal documents share a split."""
    return int.from_bytes(hashlib.sha256(text.encode(errors="replace")).digest()[:8], "big")


def _batches(texts: Iterator[str], size: int) -> Iterator[Sequence[Any]]:
    batch: list[str] = []
    for text in texts:
        batch.append(text)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def counted(reason: str, count: int) -> str:
    """Return why files were skipped, for one file or several."""
    first, _, rest = reason.partition(" ")
    if count == 1:
        return reason
    return f"{first}s {rest}" if first in ("file", "folder") else f"{reason}s"
