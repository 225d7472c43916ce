"""Self-generated answers: correct answers of the base model, kept as training targets.

Training on the short answers of a data set changes the model's style. Training on its own correct
answers keeps the style and teaches where the answers are.

Source: Zelikman et al. 2022, "STaR: Bootstrapping Reasoning With Reasoning", arXiv 2203.14465,
whose second round also gives the model the answers that it missed.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM, GenerationConfig
from transformers.utils.logging import disable_progress_bar

from nsa_cli.context.prompt import PromptBuilder
from nsa_cli.context.tokens import Ids
from nsa_cli.evaluation.metrics import score
from nsa_cli.retrieval.declining import declines
from nsa_cli.training.check_examples import OwnAnswers, holds, without_sentences
from nsa_models.gguf.shrink import restore
from nsa_models.tasks import Article
from nsa_models.tokenization.tokenizer import Tokenizer

MOST_TOKENS = 48
"""Tokens of the longest answer kept."""

_BATCH = {"cuda": 256, "cpu": 8}
_HINTED = "{question} (The right answer is: {gold}. Say so in a sentence.)"
"""Second-round question, with the answer that the first round missed."""

QuestionKey = tuple[str, int, str]
"""Title of the article, number of the paragraph, question."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Unanswered:
    """A question without a correct answer so far, with the prompts of both rounds."""

    key: QuestionKey
    ids: Ids
    hinted_ids: Ids
    gold: tuple[str, ...]


def write_self_answers(
    folder: Path,
    articles: Sequence[Article],
    path: Path,
    seconds: float,
    device: torch.device,
    on_round: Callable[[int, int], None],
) -> None:
    """Let a dense model answer questions from their paragraphs; write its correct answers.

    A second round gives the missed answers to rephrase. Questions that the file answers already
    are skipped.

    Args:
        folder: Hugging Face folder of the model.
        articles: Articles with questions.
        path: JSON Lines file to append the correct answers to.
        seconds: Time limit.
        device: Device of the model.
        on_round: Called after each batch with the questions asked and answered correctly in the
            round.
    """
    tokenizer = Tokenizer.from_folder(folder)
    left = _unanswered(PromptBuilder(tokenizer, None), articles, _read(path).keys())
    disable_progress_bar()
    restore(folder)
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.bfloat16 if device.type == "cuda" else torch.float32
    ).to(device)
    _end_line(path)
    began = time.monotonic()
    for hinted in (False, True):
        right: set[QuestionKey] = set()
        asked = 0
        for batch in _batches(left, _BATCH[device.type]):
            if time.monotonic() - began > seconds and (asked or hinted):
                return
            prompts = [each.hinted_ids if hinted else each.ids for each in batch]
            answers = _generate(model, tokenizer, prompts)
            asked += len(batch)
            rows = ""
            for each, answer in zip(batch, answers, strict=True):
                if answer is not None and score(answer, each.gold).contains_gold:
                    right.add(each.key)
                    row = dict(zip(("article", "paragraph", "question"), each.key, strict=True))
                    rows += json.dumps({**row, "answer": answer}) + "\n"
            with path.open("ab", buffering=0) as file:  # one write: other processes append too
                file.write(rows.encode())
            on_round(asked, len(right))
        left = [each for each in left if each.key not in right]


def _end_line(path: Path) -> None:
    """End a truncated last line, so that no other line continues it."""
    if path.exists() and not path.read_bytes().endswith(b"\n"):
        with path.open("a", encoding="utf-8") as file:
            file.write("\n")


def with_self_answers(articles: Sequence[Article], path: Path) -> list[Article]:
    """Articles with the file's answers only; unchanged if the file is missing or empty.

    Raises:
        OSError: If the file cannot be read.
    """
    if not (answers := _read(path)):
        return list(articles)
    return [
        replace(
            article,
            paragraphs=tuple(
                replace(
                    part,
                    questions=tuple(
                        (asked, answers[article.title, number, asked])
                        for asked, _ in part.questions
                        if (article.title, number, asked) in answers
                    ),
                )
                for number, part in enumerate(article.paragraphs)
            ),
        )
        for article in articles
    ]


def _read(path: Path, *, right: bool = True) -> dict[QuestionKey, tuple[str, ...]]:
    """The answers of a file that are right, or the inventions; truncated lines are skipped."""
    if not path.exists():
        return {}
    found: dict[QuestionKey, tuple[str, ...]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        with suppress(json.JSONDecodeError):
            row = json.loads(line)
            if row.get("right", True) == right:
                found[row["article"], row["paragraph"], row["question"]] = (row["answer"],)
    return found


def read_own_answers(path: Path) -> dict[str, OwnAnswers]:
    """Return the right answers and the inventions of a file, by question; none if it is missing.

    Raises:
        OSError: If the file cannot be read.
    """
    found: dict[str, OwnAnswers] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        with suppress(json.JSONDecodeError):  # truncated lines are skipped
            row = json.loads(line)
            own = found.get(row["question"], OwnAnswers())
            said = (row["answer"],)
            found[row["question"]] = (
                replace(own, right=own.right + said)
                if row.get("right", True)
                else replace(own, wrong=own.wrong + said)
            )
    return found


def write_inventions(
    folder: Path,
    articles: Sequence[Article],
    path: Path,
    seconds: float,
    device: torch.device,
    on_answers: Callable[[int], None],
) -> None:
    """Let a dense model answer questions from texts that lack the answer; write what it invents.

    The text is the question's paragraph without the sentences that have the answer, or another
    paragraph of the article. Answers that decline are left out, and questions whose invention the
    file has.

    Args:
        folder: Hugging Face folder of the model.
        articles: Articles with questions.
        path: JSON Lines file to append the inventions to, with `right` false.
        seconds: Time limit.
        device: Device of the model.
        on_answers: Called at the end with the number of inventions.
    """
    tokenizer = Tokenizer.from_folder(folder)
    prompts, rng = PromptBuilder(tokenizer, None), random.Random("inventions")
    asked, known = [], _read(path, right=False)
    for article in articles:
        for number, part in enumerate(article.paragraphs):
            for question, gold in part.questions:
                others = [each.text for each in article.paragraphs if not holds(each.text, gold)]
                cut = without_sentences(part.text, gold)
                texts = [cut, *rng.sample(others, min(1, len(others)))]
                text = rng.choice([each for each in texts if each.strip()] or [""])
                key = (article.title, number, question)
                if text and not holds(text, gold) and key not in known:
                    ids = np.concatenate([prompts.plain(text).ids, prompts.question(question).ids])
                    asked.append(_Unanswered(key=key, ids=ids, hinted_ids=ids, gold=gold))
    rng.shuffle(asked)
    disable_progress_bar()
    restore(folder)
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.bfloat16 if device.type == "cuda" else torch.float32
    ).to(device)
    _end_line(path)
    began, count, size = time.monotonic(), 0, _BATCH[device.type]
    for first in range(0, len(asked), 8 * size):  # of similar length within a part alone
        for batch in _batches(asked[first : first + 8 * size], size):
            if time.monotonic() - began > seconds:
                on_answers(count)
                return
            rows = ""
            answers = _generate(model, tokenizer, [each.ids for each in batch])
            for each, answer in zip(batch, answers, strict=True):
                if answer and not declines(answer) and not score(answer, each.gold).contains_gold:
                    row = dict(zip(("article", "paragraph", "question"), each.key, strict=True))
                    rows += json.dumps({**row, "answer": answer, "right": False}) + "\n"
                    count += 1
            with path.open("ab", buffering=0) as file:
                file.write(rows.encode())
    on_answers(count)


def _unanswered(
    prompts: PromptBuilder, articles: Sequence[Article], done: Collection[QuestionKey]
) -> list[_Unanswered]:
    """The questions of articles that are not in `done`, with their prompts."""
    found = []
    for article in articles:
        for number, part in enumerate(article.paragraphs):
            paragraph = prompts.plain(part.text).ids
            for asked, gold in part.questions:
                key = (article.title, number, asked)
                if key not in done:
                    hinted = _HINTED.format(question=asked.strip(), gold=max(gold, key=len))
                    ids, hinted_ids = (
                        np.concatenate([paragraph, prompts.question(q).ids])
                        for q in (asked, hinted)
                    )
                    found.append(_Unanswered(key=key, ids=ids, hinted_ids=hinted_ids, gold=gold))
    return found


def _batches(waiting: Sequence[_Unanswered], size: int) -> Iterator[Sequence[_Unanswered]]:
    """Batches of questions of similar length."""
    ordered = sorted(waiting, key=lambda each: len(each.ids))
    for first in range(0, len(ordered), size):
        yield ordered[first : first + size]


def _generate(
    model: AutoModelForCausalLM,
    tokenizer: Tokenizer,
    prompts: Sequence[Ids],
) -> list[str | None]:
    """An answer to each prompt; None for an unfinished or empty answer."""
    stops = sorted(tokenizer.stop_ids)
    longest = max(map(len, prompts))
    ids = torch.full((len(prompts), longest), stops[0])
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :] = torch.as_tensor(prompt, dtype=torch.long)
        mask[row, longest - len(prompt) :] = 1
    config = GenerationConfig(
        max_new_tokens=MOST_TOKENS,
        do_sample=False,
        eos_token_id=stops,
        pad_token_id=stops[0],
    )
    with torch.inference_mode():
        output = model.generate(
            ids.to(model.device),
            attention_mask=mask.to(model.device),
            generation_config=config,
        )
    answers: list[str | None] = []
    for row in output[:, longest:].tolist():
        end = next((n for n, token in enumerate(row) if token in tokenizer.stop_ids), None)
        text = None if end is None else tokenizer.normalize(tokenizer.decode(row[:end])).strip()
        answers.append(text or None)
    return answers
