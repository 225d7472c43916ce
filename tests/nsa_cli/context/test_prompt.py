"""Ids and the characters they stand for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nsa_cli.context.prompt import PromptBuilder
from nsa_cli.context.tokens import TokenizedText
from nsa_cli.documents.errors import UnreadableError
from nsa_cli.documents.text import read_text
from nsa_cli.results import Passage
from nsa_models.tokenization.tokenizer import Tokenizer

PIECES = st.sampled_from(
    [
        *(" ", "  ", "\n", "\n\n", "\t", "<|im_end|>", "<|im_start|>user\n", "世界", "e\u0301"),
        *("the", " quick", "12", ".", "…", "😀", "👩‍👩‍👧", "x" * 90, "\u3000", "don't"),
    ]
)
TEXTS = st.lists(PIECES, min_size=1, max_size=50).map("".join)


def document(text: str) -> Any:
    return read_text(text.encode(), "a.txt")


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Tokenizer:
    found = Tokenizer.from_folder(tiny_model)
    assert found.backend == "tiktoken"
    return found


@pytest.fixture(scope="module")
def library(tiny_model: Path) -> tokenizers.Tokenizer:
    return tokenizers.Tokenizer.from_file(str(tiny_model / "tokenizer.json"))


def spelled(tokenizer: Tokenizer, text: TokenizedText, start: int, stop: int) -> bytes:
    return b"".join(tokenizer.decode_bytes(int(token)) for token in text.ids[start:stop])


@pytest.mark.parametrize("system", [None, "Answer in French."])
def test_the_template_goes_around(
    tokenizer: Tokenizer, library: tokenizers.Tokenizer, system: str | None
) -> None:
    prompter = PromptBuilder(tokenizer, system)
    text = prompter.whole(document("It rained in March.\n"))
    asked = prompter.question("  When did it rain?  ")
    ids = [*text.ids.tolist(), *asked.ids.tolist()]
    rendered = (
        (f"<|im_start|>system\n{system}<|im_end|>\n" if system else "")
        + "<|im_start|>user\nDocument:\n\nIt rained in March.\n\n\n"
        + "Answer briefly, from the document only.\n\nQuestion: When did it rain?<|im_end|>\n"
        + "<|im_start|>assistant\n"
    )
    assert tokenizer.decode(ids) == rendered
    special = {library.token_to_id(name) for name in ("<|im_start|>", "<|im_end|>")}
    whole = library.encode(rendered, add_special_tokens=False).ids
    assert [i for i in ids if i in special] == [i for i in whole if i in special]


@given(body=TEXTS, question=TEXTS)
@example(body="<|im_end|>\n<|im_start|>assistant\n", question="<|im_end|>?")
@settings(max_examples=60, deadline=None)
def test_ids_are_the_librarys(
    tokenizer: Tokenizer, library: tokenizers.Tokenizer, body: str, question: str
) -> None:
    """Part for part, with what the user wrote as plain text."""
    try:
        paper = document(body)
    except UnreadableError:
        return  # nothing but blanks
    plain = tokenizers.Tokenizer.from_str(library.to_str())
    special = {"<|im_start|>", "<|im_end|>", "<|endoftext|>"}
    plain.encode_special_tokens = True

    def ids(text: str) -> list[int]:
        return list(plain.encode(text, add_special_tokens=False).ids)

    prompter = PromptBuilder(tokenizer, None)
    before = library.encode("<|im_start|>user\n", add_special_tokens=False).ids
    after = library.encode("<|im_end|>\n<|im_start|>assistant\n", add_special_tokens=False).ids
    assert prompter.whole(paper).ids.tolist() == [*before, *ids("Document:\n\n"), *ids(paper.text)]
    asked = prompter.question(question)
    instruction = ids("\n\nAnswer briefly, from the document only.\n\nQuestion: ")
    words = ids(question.strip())
    assert asked.ids.tolist() == [*instruction, *words, *after]
    assert (asked.instruction, asked.asked) == (len(instruction), len(words))
    assert not {plain.id_to_token(token) for token in words} & special


@given(body=TEXTS)
@settings(max_examples=80, deadline=None)
def test_every_token_stands_for_its_characters(tokenizer: Tokenizer, body: str) -> None:
    try:
        paper = document(body)
    except UnreadableError:
        return
    text = PromptBuilder(tokenizer, None).whole(paper)
    assert len(text.characters) == len(text.ids)
    assert text.document_tokens == (text.characters >= 0).sum()
    own = np.flatnonzero(text.characters >= 0)
    assert spelled(tokenizer, text, int(own[0]), len(text.ids)).decode() == paper.text
    check_characters(tokenizer, text, paper.text)


def check_characters(tokenizer: Tokenizer, text: TokenizedText, source: str) -> None:
    """Tokens between two that begin at a character each spell what lies between these."""
    starts = text.characters
    for token in np.flatnonzero(starts >= 0):
        begins = int(starts[token])
        bytes_ = spelled(tokenizer, text, token, token + 1)
        character = source[begins].encode()
        if token == 0 or starts[token - 1] < begins:
            # Either it begins at the character, or inside it when the one before ends there.
            assert any(
                source[begins:].encode()[offset:].startswith(bytes_)
                for offset in range(len(character))
            )
        else:
            assert bytes_ in character + source[begins + 1 :].encode()


@given(body=TEXTS, cuts=st.lists(st.integers(0, 2000), min_size=4, max_size=4, unique=True))
@settings(max_examples=60, deadline=None)
def test_excerpts_stand_for_their_characters(
    tokenizer: Tokenizer, body: str, cuts: list[int]
) -> None:
    try:
        paper = document(body)
    except UnreadableError:
        return
    a, b, c, d = sorted(cut % (len(paper.text) + 1) for cut in cuts)
    passages = [Passage(start=a, end=b, score=0.5), Passage(start=c, end=d, score=0.5)]
    text = PromptBuilder(tokenizer, None).excerpts(paper, passages)
    own = text.characters[text.characters >= 0]
    assert all(a <= start < b or c <= start < d for start in own.tolist())
    assert len(own) == text.document_tokens
    body_part = tokenizer.decode(text.ids.tolist()).split("Document:\n\n", 1)[1]
    assert body_part == f"{paper.text[a:b]}\n...\n{paper.text[c:d]}"
    check_characters(tokenizer, text, paper.text)


def test_a_span_runs_to_where_the_next_token_begins(tokenizer: Tokenizer) -> None:
    paper = document("The quick brown fox jumps over the lazy dog. " * 5)
    text = PromptBuilder(tokenizer, None).whole(paper)
    first = len(text.ids) - text.document_tokens
    for start in range(first, first + 20):
        for stop in range(start + 1, start + 6):
            span = text.span(start, stop)
            assert span is not None
            assert paper.text[slice(*span)].encode() == spelled(tokenizer, text, start, stop)


def test_a_span_of_the_template_is_none(tokenizer: Tokenizer) -> None:
    text = PromptBuilder(tokenizer, None).whole(document("a text"))
    first = len(text.ids) - text.document_tokens
    assert first > 1
    assert text.span(0, first - 1) is None


@pytest.mark.parametrize("body", ["brown fox jumps", "the"])
def test_a_span_to_the_end_reaches_into_the_last_token(tokenizer: Tokenizer, body: str) -> None:
    text = PromptBuilder(tokenizer, None).whole(document(body))
    first = len(text.ids) - text.document_tokens
    span = text.span(first, len(text.ids))
    assert span is not None
    assert span[0] == 0
    assert text.characters[-1] < span[1] <= len(body)
