"""The answer cache: the same question about the same bytes is answered at once.

It keeps greedy answers alone, because sampling gives another answer each time. No torch here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from nsa_cli import __version__
from nsa_cli.caches import json_files
from nsa_cli.config.options import Options, cache_key
from nsa_cli.events import AnswerFinished
from nsa_cli.results import Citation, Computation, Stats
from nsa_models.model_folder import ModelFolder
from nsa_models.paths import cache_root

_FORMAT = 2
"""Bump when the same question may get another answer."""

_KEY = (
    *("device", "dense", "answer_blocks", "quantization", "system", "max_tokens"),
    *("password", "pages", "ocr", "every_line", "yarn"),
)
"""Options in the key of format 2, in order."""

MOST = 10_000
"""Answers and summaries to keep; the least recently used go first."""


class AnswerCache:
    """The cached answer to one question about one document.

    Args:
        content: The document's bytes, or a hash of them.
        source: The document's name, which citations repeat.
        question: The question as typed.
        where: The model.
        options: How to read and answer.
        rules: Versions of the rules that compute the answer, by name; those that do not apply
            are not among them.
    """

    def __init__(
        self,
        content: bytes,
        source: str,
        question: str,
        where: ModelFolder,
        options: Options,
        *,
        rules: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        facts = key_facts(content, source, question, where, options)
        facts += [dict(rules)] if rules else []
        self._path = json_files.path_of(answers_folder(), facts)
        self._source = source
        self._usable = is_kept(options)

    def recall(self, seconds: float) -> AnswerFinished | None:
        """Return the cached answer, or None; `seconds` have passed since the command began."""
        if not self._usable:
            return None
        kept = json_files.read(self._path)
        if kept is None:
            return None
        try:
            for label in ("name", "contents"):
                kept.pop(label, None)
            citations = tuple(Citation(**citation) for citation in kept.pop("citations"))
            stats = Stats(**kept.pop("stats"))
            warnings = tuple(kept.pop("warnings", ()))
            made = kept.pop("computation", None)
            found = AnswerFinished(
                **kept,
                citations=citations,
                stats=stats,
                warnings=warnings,
                computation=None if made is None else Computation(**made),
            )
        except (TypeError, KeyError):
            return None
        return replace(
            found,
            stats=replace(
                stats,
                reused_tokens=stats.document_tokens,
                load_seconds=round(seconds, 3),
                prefill_seconds=0.0,
                time_to_first_token_seconds=0.0,
                decode_tokens_per_second=0.0,
            ),
        )

    def keep(self, finished: AnswerFinished, contents: Sequence[str] = ()) -> None:
        """Store an answer of the model; ignore a disk that refuses it.

        Args:
            finished: The answer.
            contents: Hashes of the document's files, by which the answer is removed.
        """
        computation = finished.computation
        if self._usable and (computation is None or computation.is_expression):
            body = {**asdict(finished), "name": self._source, "contents": list(contents)}
            json_files.write(self._path, body, most=MOST)


def key_facts(
    content: bytes, source: str, asked: Any, where: ModelFolder, options: Options
) -> list[Any]:
    """List the facts that an answer or a summary depends on.

    Args:
        content: The document's bytes, or a hash of them.
        source: The document's name.
        asked: What is asked, as JSON has it.
        where: The model.
        options: How to read and answer.
    """
    return [
        *(__version__, _FORMAT, hashlib.sha256(content).hexdigest(), source, asked),
        *(where.name, where.fingerprint, *cache_key(options, "answer", _KEY)),
    ]


def is_kept(options: Options) -> bool:
    """Whether answers with these options are stored: greedy ones, unless nothing is."""
    return options.store and options.temperature == 0


def answers_folder() -> Path:
    """Return the folder of cached answers and summaries."""
    return cache_root() / "answers"
