"""Stop strings: what is shown, what is held back, and which tokens come with it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsa_cli.engine.stop_strings import StopStrings
from nsa_cli.events import TokenLogprob


def shown(stops: tuple[str, ...], *pieces: str) -> tuple[list[str], bool]:
    """What comes of pieces, and whether a stop string was found."""
    found = StopStrings(stops)
    texts = []
    for piece in pieces:
        if event := found.push(piece):
            texts.append(event.text)
        if found.stopped:
            return texts, True
    if event := found.rest(""):
        texts.append(event.text)
    return texts, found.stopped


@pytest.mark.parametrize(
    ("stops", "pieces", "texts", "stopped"),
    [
        ((), (" a", "b"), ["a", "b"], False),
        (("\n",), ("a", "b\nc"), ["a", "b"], True),
        (("END",), ("a E", "N", "x"), ["a ", "ENx"], False),
        (("END",), ("a E", "N", "D b"), ["a "], True),
        (("END",), ("a E", "N"), ["a ", "EN"], False),
        (("xy", "y"), ("axyb",), ["a"], True),
        (("aab",), ("aaab",), ["a"], True),
    ],
)
def test_cases(
    stops: tuple[str, ...], pieces: tuple[str, ...], texts: list[str], stopped: bool
) -> None:
    assert shown(stops, *pieces) == (texts, stopped)


@given(
    st.lists(st.text("ab", min_size=1, max_size=3), min_size=1, max_size=3),
    st.lists(st.text("ab", max_size=3), max_size=8),
)
def test_the_text_ends_before_the_first_stop_string(stops: list[str], pieces: list[str]) -> None:
    text = "".join(pieces)
    ends = [text.find(stop) for stop in stops if stop in text]
    texts, stopped = shown(tuple(stops), *pieces)
    assert stopped == bool(ends)
    # A longer stop string that begins earlier may be complete only after a shorter one.
    found = "".join(texts)
    assert text.startswith(found)
    assert not any(stop in found for stop in stops)
    assert stopped or found == text


def test_tokens_come_with_their_text() -> None:
    found = StopStrings(("xyz",))
    tokens = [TokenLogprob(token=bytes([n]), logprob=-1.0, top=()) for n in range(4)]
    first = found.push("ax", tokens[0])
    assert first is not None
    assert (first.text, first.tokens) == ("a", (tokens[0],))
    assert found.push("y", tokens[1]) is None
    second = found.push("b", tokens[2])
    assert second is not None
    assert (second.text, second.tokens) == ("xyb", (tokens[1], tokens[2]))
    assert found.push("xyz", tokens[3]) is None
    assert found.stopped
