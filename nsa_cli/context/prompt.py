"""Prompts: a document and a question in the model's own chat template, as token ids."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nsa_cli.context.tokens import Characters, Ids, Spans, TokenizedQuestion, TokenizedText
from nsa_cli.documents import Document
from nsa_cli.results import Passage
from nsa_models.tokenization.tokenizer import Tokenizer

_INTRODUCTION = "Document:\n\n"
_INSTRUCTION = "\n\nAnswer briefly, from the document only."
_QUESTION = "\n\nQuestion: "
_ANSWER = "\nAnswer:"
_NEXT = "\n\nQuestion:"
_EXPRESSION = (
    "\n\nWrite one arithmetic expression whose value answers the question. Use the figures as the "
    "document has them. Write no result."
    "\n\nQuestion: By how much did sales rise from 2011 to 2012?"
    "\nExpression: 3.1 million - 2.8 million"
    "\n\nQuestion: What percentage of the 640 seats was sold?"
    "\nExpression: 512 / 640 * 100"
    "\n\nQuestion: By what percentage did costs fall from 2011 to 2012?"
    "\nExpression: (2.5 million - 2.8 million) / 2.8 million * 100"
    "\n\nQuestion: "
)
_DATES = (
    "\n\nWrite one expression with dates whose value answers the question. Take the date or the "
    "period that the document gives for it. Write no result."
    "\n\nQuestion: The goods arrived on 2 May 2011. By which date must the buyer complain?"
    "\nExpression: 2 May 2011 + 14 days"
    "\n\nQuestion: The lease ends on 30 June 2012. By when must the tenant give notice?"
    "\nExpression: 30 June 2012 - 3 months"
    "\n\nQuestion: How many days passed between the order and the delivery?"
    "\nExpression: 21 March 2011 - 4 March 2011"
    "\n\nQuestion: "
)
_LEAD = "Expression: "
GAP = "\n...\n"
"""Between two passages of a document."""

OVERLAP_TOKENS = 256
"""Tokens that two neighboring context windows share: attention is uninformative at their ends."""


def fixed_words() -> tuple[str, ...]:
    """Return what a prompt has around a document and a question, in any chat template."""
    return (_INTRODUCTION, _INSTRUCTION, _QUESTION, _ANSWER, _NEXT, GAP)


class PromptBuilder:
    """Puts texts and questions into the model's chat template.

    Args:
        tokenizer: The model's tokenizer.
        system: System prompt; the template's own when None.
    """

    def __init__(self, tokenizer: Tokenizer, system: str | None) -> None:
        self._tokenizer = tokenizer
        frame = tokenizer.chat_frame(system)
        self._opens = tokenizer.encode_template(frame.before)
        self._before = np.concatenate([self._opens, tokenizer.encode(_INTRODUCTION)])
        self._after = tokenizer.encode_template(frame.after)

    def whole(self, document: Document) -> TokenizedText:
        """Tokenize a whole document."""
        return self.plain(document.text)

    def windows(self, text: TokenizedText, most: int) -> list[TokenizedText]:
        """Split a whole text into context windows that overlap a little.

        Each begins with the template, so the model sees a complete prompt.

        Args:
            text: From `whole`.
            most: Maximum tokens of a window.
        """
        head = len(self._before)
        ids, starts, own = text.ids[head:], text.characters[head:], most - head
        texts = []
        for first in range(0, max(1, len(ids) - OVERLAP_TOKENS), own - OVERLAP_TOKENS):
            part = slice(first, first + own)
            end = int(starts[part.stop]) if part.stop < len(ids) else text.end
            texts.append(self._text([(ids[part], starts[part])], end))
        return texts

    def plain(self, text: str) -> TokenizedText:
        """Tokenize a plain string as if it were a document."""
        return self._text([self._tokenizer.encode_with_offsets(text)], len(text))

    def notes(self, text: str) -> TokenizedText:
        """Tokenize a plain string as the beginning of a message, without an introduction."""
        ids, starts = self._tokenizer.encode_with_offsets(text)
        return TokenizedText(
            ids=np.concatenate([self._opens, ids]),
            characters=np.concatenate([np.full(len(self._opens), -1, np.int64), starts]),
            document_tokens=len(ids),
            end=len(text),
        )

    def excerpts(self, document: Document, passages: Sequence[Passage]) -> TokenizedText:
        """Tokenize some passages of a document, in document order."""
        parts = []
        for passage in passages:
            ids, starts = self._tokenizer.encode_with_offsets(
                document.text[passage.start : passage.end]
            )
            parts.append((ids, starts + passage.start))
        return self._text(parts, passages[-1].end if passages else -1)

    def request(self, request: str) -> TokenizedQuestion:
        """Tokenize a request as it follows notes, without the instruction to answer briefly."""
        asked = self._tokenizer.encode("\n\n" + request.strip())
        return TokenizedQuestion(
            text=request,
            ids=np.concatenate([asked, self._after]),
            instruction=0,
            asked=len(asked),
        )

    def question(
        self, question: str, earlier: Sequence[tuple[str, str]] = (), instructions: str = ""
    ) -> TokenizedQuestion:
        """Tokenize a question as it follows a text.

        Args:
            question: The question.
            earlier: Earlier questions with their answers.
            instructions: Instructions of the client; here and not in the system prompt, so that
                the stored prefix stays the same.
        """
        turns = "".join(f"{asked.strip()}\nAnswer: {said}\n\nQuestion: " for asked, said in earlier)
        heeded = f" {instructions.strip()}{_QUESTION}" if instructions.strip() else _QUESTION
        instruction = self._tokenizer.encode(_INSTRUCTION + heeded + turns)
        asked = self._tokenizer.encode(question.strip())
        ids = np.concatenate([instruction, asked, self._after])
        return TokenizedQuestion(
            text=question,
            ids=ids,
            instruction=len(instruction),
            asked=len(asked),
            bare=not (turns or instructions.strip()),
            earlier=tuple(earlier),
            instructions=instructions,
        )

    def expression(self, question: str, lead: str, *, dates: bool = False) -> TokenizedQuestion:
        """Tokenize the request for an arithmetic expression that answers a question.

        Args:
            question: The question.
            lead: The beginning of the expression.
            dates: Whether it is an expression with dates.
        """
        instruction = self._tokenizer.encode(_DATES if dates else _EXPRESSION)
        asked = self._tokenizer.encode(question.strip())
        begun = self._tokenizer.encode(_LEAD + lead)
        return TokenizedQuestion(
            text=question,
            ids=np.concatenate([instruction, asked, self._after, begun]),
            instruction=len(instruction),
            asked=len(asked),
        )

    def answered(self, question: TokenizedQuestion, answer: str) -> tuple[Ids, int]:
        """Tokenize a question with its answer.

        Args:
            question: From `question` or `expression`.
            answer: The answer.

        Returns:
            The ids, with the end token; and how many of them are the answer's, the end token
            included.
        """
        end = [i for i in self._after.tolist() if i in self._tokenizer.stop_ids][:1]
        said = np.concatenate([self._tokenizer.encode(answer), np.array(end, np.int32)])
        return np.concatenate([question.ids, said]), len(said)

    def lesson(self, questions: Sequence[tuple[str, str]]) -> tuple[Ids, list[Spans]]:
        """Tokenize questions with their answers as one conversation to learn from.

        Args:
            questions: Each with its answer; the last has the form of `question`, those before
                it the form of its `earlier`.

        Returns:
            The ids, and for each question its span and the span of its answer, the end token
            included.
        """
        encode = self._tokenizer.encode
        end = [i for i in self._after.tolist() if i in self._tokenizer.stop_ids][:1]
        parts, spans = [encode(_INSTRUCTION + _QUESTION)], []
        for number, (asked, answer) in enumerate(questions):
            last = number == len(questions) - 1
            asks = encode(asked.strip() if number == 0 else f" {asked.strip()}")
            leads = self._after if last else encode(_ANSWER)
            says = encode(answer.strip() if last else f" {answer.strip()}")
            ends = np.array(end, np.int32) if last else encode(_NEXT)
            start = sum(len(part) for part in parts)
            parts += [asks, leads, says, ends]
            begins = start + len(asks) + len(leads)
            stop = begins + len(says) + min(1, len(ends))
            spans.append(((start, start + len(asks)), (begins, stop)))
        return np.concatenate(parts), spans

    def _text(self, parts: Sequence[tuple[Ids, Characters]], end: int) -> TokenizedText:
        gap = self._tokenizer.encode(GAP)
        ids, characters = [self._before], [np.full(len(self._before), -1, np.int64)]
        for number, (part, starts) in enumerate(parts):
            if number:
                ids.append(gap)
                characters.append(np.full(len(gap), -1, np.int64))
            ids.append(part)
            characters.append(starts)
        return TokenizedText(
            ids=np.concatenate(ids),
            characters=np.concatenate(characters),
            document_tokens=sum(len(part) for part, _ in parts),
            end=end,
        )
