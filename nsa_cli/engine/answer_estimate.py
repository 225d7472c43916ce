"""The time that answers to questions about a document will take, by the model that answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from nsa_cli.config.options import Options
from nsa_cli.context.estimate import answer_seconds
from nsa_cli.context.fit import plain_config
from nsa_cli.context.tokens import TokenizedQuestion, TokenizedText
from nsa_cli.engine.weight_formats import relative_times
from nsa_cli.events import Emit
from nsa_cli.retrieval.passages import DIRECT_TOKENS
from nsa_models.cache.layer_devices import pick_device
from nsa_models.configuration.config import NSAConfig
from nsa_models.model_folder import ModelFolder


class Answers(Protocol):
    """A model that answers; `Engine` is one."""

    options: Options
    emit: Emit

    @property
    def folder(self) -> ModelFolder:
        """The model."""

    def formats(self, config: NSAConfig) -> list[str]:
        """Formats of the weights in which it may answer, the preferred one first."""


def seconds_of_answers(
    answers: Answers, texts: Sequence[TokenizedText], asked: Sequence[TokenizedQuestion]
) -> float:
    """Estimate the time of the answers to some questions, in seconds.

    Args:
        answers: The model that answers.
        texts: The context windows of the document.
        asked: The questions.
    """
    config = plain_config(answers.folder, 0, 0, answers.options, answers.emit)
    tokens = sum(text.document_tokens for text in texts)
    seconds = answer_seconds(
        *(config, answers.folder.folder, min(tokens, DIRECT_TOKENS)),
        [len(question.ids) for question in asked],
        answers.options.max_tokens,
        pick_device(answers.options.device),
    )
    return round(seconds * relative_times(config, answers.formats(config)[0])[1], 3)
