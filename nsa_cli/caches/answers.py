"""Answers given before: the same question about the same bytes is answered at once.

Only greedy answers are kept, since they alone are the same each time. Nothing here imports torch.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path

from nsa_cli import __version__
from nsa_cli.caches import json_files
from nsa_cli.config.options import Options
from nsa_cli.events import AnswerFinished
from nsa_cli.results import Citation, Stats
from nsa_models.model_folder import ModelFolder
from nsa_models.paths import cache_root

_FORMAT = 2
"""Raised when the same question may be answered otherwise."""

_MOST = 10_000
"""Answers kept; those used longest ago go first."""


class AnswerCache:
    """Answers to one question about one document.

    Args:
        content: The document's bytes, or a hash of them.
        source: What the user called it, since citations name it.
        question: What was asked.
        where: The model.
        options: How it was asked.
    """

    def __init__(
        self, content: bytes, source: str, question: str, where: ModelFolder, options: Options
    ) -> None:
        facts = [
            __version__,
            _FORMAT,
            hashlib.sha256(content).hexdigest(),
            source,
            question,
            where.name,
            where.fingerprint,
            options.device,
            options.dense,
            options.answer_blocks,
            options.quantization,
            options.system,
            options.max_tokens,
            options.password,
            options.pages,
            options.ocr,
            options.every_line,
            options.yarn,
        ]
        name = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]
        self._path = answers_folder() / f"{name}.json"
        self._usable = options.store and options.temperature == 0

    def recall(self, seconds: float) -> AnswerFinished | None:
        """The answer given before, or None; `seconds` is what looking it up took so far."""
        if not self._usable:
            return None
        kept = json_files.read(self._path)
        if kept is None:
            return None
        try:
            citations = tuple(Citation(**citation) for citation in kept.pop("citations"))
            stats = Stats(**kept.pop("stats"))
            found = AnswerFinished(**kept, citations=citations, stats=stats)
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

    def keep(self, finished: AnswerFinished) -> None:
        """Keep an answer; a disk that cannot take it is no reason to fail."""
        if self._usable:
            json_files.write(self._path, asdict(finished), most=_MOST)


def answers_folder() -> Path:
    """Where answers given before lie."""
    return cache_root() / "answers"
