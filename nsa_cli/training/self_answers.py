"""What a base says itself of single paragraphs, kept where it is right: answers to learn from.

A model that is taught the bare words of a data set forgets how it spoke. Taught its own right
answers, it keeps its words, and learns where to find them.

Source: Zelikman et al. 2022, "STaR: Bootstrapping Reasoning With Reasoning", arXiv 2203.14465, who
tell the model what it did not find as well.
"""

from __future__ import annotations

import json
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
from nsa_models.tasks import Article
from nsa_models.tokenization.tokenizer import Tokenizer

MOST_TOKENS = 48
"""Of an answer; a longer one is not kept."""

_TOGETHER = {"cuda": 256, "cpu": 8}
_TOLD = "{question} (The right answer is: {gold}. Say so in a sentence.)"
"""How what was not answered rightly is asked again."""

Tell = Callable[[int, int], None]
Key = tuple[str, int, str]
"""An article's title, the number of a paragraph, and a question about it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Open:
    """A question that waits for a right answer."""

    key: Key
    ids: Ids
    told: Ids
    gold: tuple[str, ...]


def answer_themselves(
    folder: Path,
    articles: Sequence[Article],
    path: Path,
    seconds: float,
    device: torch.device,
    tell: Tell,
) -> None:
    """Let a dense model answer questions from their paragraphs; keep its right answers.

    In a second round it is told the answers that it did not find, to put them in its own words.
    Those kept by an earlier call are not asked for again.

    Args:
        folder: Of the model, in Hugging Face's form.
        articles: With the questions.
        path: JSON Lines to add the right answers to.
        seconds: After which no more are asked for.
        device: Where to run.
        tell: Called with how many were asked and how many of them were right, in a round.
    """
    tokenizer = Tokenizer.from_folder(folder)
    left = _open_questions(PromptBuilder(tokenizer, None), articles, _read(path).keys())
    disable_progress_bar()
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.bfloat16 if device.type == "cuda" else torch.float32
    ).to(device)
    if path.exists() and not path.read_bytes().endswith(b"\n"):  # a line was cut off
        with path.open("a", encoding="utf-8") as file:
            file.write("\n")
    began = time.monotonic()
    for told in (False, True):
        right: set[Key] = set()
        asked = 0
        for batch in _batches(left, _TOGETHER[device.type]):
            if time.monotonic() - began > seconds and (asked or told):
                return
            prompts = [each.told if told else each.ids for each in batch]
            answers = _generate(model, tokenizer, prompts)
            asked += len(batch)
            rows = ""
            for each, answer in zip(batch, answers, strict=True):
                if answer is not None and score(answer, each.gold).contains_gold:
                    right.add(each.key)
                    row = dict(zip(("article", "paragraph", "question"), each.key, strict=True))
                    rows += json.dumps({**row, "answer": answer}) + "\n"
            with path.open("ab", buffering=0) as file:  # at once: others may write to it as well
                file.write(rows.encode())
            tell(asked, len(right))
        left = [each for each in left if each.key not in right]


def with_their_own(articles: Sequence[Article], path: Path) -> list[Article]:
    """Articles with the answers that were kept, and no other; as they are without a file.

    Raises:
        OSError: If the file cannot be read.
    """
    if not (said := _read(path)):
        return list(articles)
    return [
        replace(
            article,
            paragraphs=tuple(
                replace(
                    part,
                    questions=tuple(
                        (asked, said[article.title, number, asked])
                        for asked, _ in part.questions
                        if (article.title, number, asked) in said
                    ),
                )
                for number, part in enumerate(article.paragraphs)
            ),
        )
        for article in articles
    ]


def _read(path: Path) -> dict[Key, tuple[str, ...]]:
    """The answers that a file holds; a last line that was cut off counts for nothing."""
    if not path.exists():
        return {}
    found: dict[Key, tuple[str, ...]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        with suppress(json.JSONDecodeError):
            row = json.loads(line)
            found[row["article"], row["paragraph"], row["question"]] = (row["answer"],)
    return found


def _open_questions(
    prompter: PromptBuilder, articles: Sequence[Article], done: Collection[Key]
) -> list[_Open]:
    found = []
    for article in articles:
        for number, part in enumerate(article.paragraphs):
            read = prompter.plain(part.text).ids
            for asked, gold in part.questions:
                key = (article.title, number, asked)
                if key not in done:
                    told = _TOLD.format(question=asked.strip(), gold=max(gold, key=len))
                    prompts = [
                        np.concatenate([read, prompter.question(q).ids]) for q in (asked, told)
                    ]
                    found.append(_Open(key=key, ids=prompts[0], told=prompts[1], gold=gold))
    return found


def _batches(waiting: Sequence[_Open], size: int) -> Iterator[Sequence[_Open]]:
    """Questions of like length together."""
    ordered = sorted(waiting, key=lambda each: len(each.ids))
    for first in range(0, len(ordered), size):
        yield ordered[first : first + size]


def _generate(
    model: AutoModelForCausalLM,
    tokenizer: Tokenizer,
    prompts: Sequence[Ids],
) -> list[str | None]:
    """An answer to each prompt; None where it did not come to an end."""
    stops = sorted(tokenizer.stop_ids)
    longest = max(map(len, prompts))
    ids = torch.full((len(prompts), longest), stops[0])
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :] = torch.as_tensor(prompt, dtype=torch.long)
        mask[row, longest - len(prompt) :] = 1
    how = GenerationConfig(
        max_new_tokens=MOST_TOKENS,
        do_sample=False,
        eos_token_id=stops,
        pad_token_id=stops[0],
    )
    with torch.inference_mode():
        said = model.generate(
            ids.to(model.device),
            attention_mask=mask.to(model.device),
            generation_config=how,
        )
    answers: list[str | None] = []
    for row in said[:, longest:].tolist():
        end = next((n for n, token in enumerate(row) if token in tokenizer.stop_ids), None)
        text = None if end is None else tokenizer.normalize(tokenizer.decode(row[:end])).strip()
        answers.append(text or None)
    return answers
