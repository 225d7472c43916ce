"""Hebrew, Arabic and their kin in the order in which they are read."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from itertools import pairwise

from nsa_cli.documents.pdf.runs import Run

_WRITTEN_SO = re.compile(r"[\u05d0-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]")

_LAM = "\u0644"
_ALEFS = frozenset("\u0622\u0623\u0625\u0627\u0671")


def is_right_to_left(char: str) -> bool:
    """Whether a character belongs to a script that is written from right to left."""
    return char > "\u0590" and unicodedata.bidirectional(char) in {"R", "AL"}


def has_right_to_left(runs: Sequence[Run]) -> bool:
    """Whether a text has letters that are written from right to left."""
    return any(_WRITTEN_SO.search(run.string()) for run in runs)


def to_logical_order(run: Run) -> None:
    """Turn a run round whose glyphs stand from left to right although they are read otherwise.

    Numbers and words of other scripts in it keep their order. Ligatures are spelled as they are
    read.
    """
    _turn_round(run)
    _spell_ligatures(run)


def _turn_round(run: Run) -> None:
    letters = [at for at, char in enumerate(run.text) if is_right_to_left(char)]
    rising = sum(run.lefts[after] > run.lefts[at] for at, after in pairwise(letters))
    if 2 * rising <= len(letters) - 1 or len(letters) < 2:
        return
    clusters: list[list[int]] = []
    for at, char in enumerate(run.text):
        if clusters and unicodedata.combining(char):
            clusters[-1].append(at)
        else:
            clusters.append([at])
    order: list[list[int]] = []
    forward: list[list[int]] = []
    for cluster in reversed(clusters):
        char = run.text[cluster[0]]
        if is_right_to_left(char):
            order += _released(run, forward)
            forward = []
            order.append(cluster)
        else:
            forward.append(cluster)
    order += _released(run, forward)
    places = [at for cluster in order for at in cluster]
    run.text = [run.text[at] for at in places]
    run.lefts = [run.lefts[at] for at in places]
    run.rights = [run.rights[at] for at in places]


def _spell_ligatures(run: Run) -> None:
    """Turn the letters of ligatures round in a run where an alef comes before its lam.

    The letters of a ligature are one glyph. PDFium turns them round with the letters of their line.
    Arabic has a ligature of lam and alef and none of alef and lam.
    """
    groups: list[list[int]] = []
    for at in range(len(run.text)):
        before = groups[-1][0] if groups else at
        one_glyph = run.lefts[before] == run.lefts[at] and run.rights[before] == run.rights[at]
        if groups and one_glyph and is_right_to_left(run.text[at]):
            groups[-1].append(at)
        else:
            groups.append([at])
    spelled = [[run.text[at] for at in group] for group in groups]
    if any(len(group) == 2 and group[0] in _ALEFS and group[1] == _LAM for group in spelled):
        run.text = [char for group in spelled for char in reversed(group)]


def _released(run: Run, clusters: list[list[int]]) -> list[list[int]]:
    """Clusters between letters written from right to left, in the order in which they are read.

    Words and numbers among them are turned back; spaces and marks around them are not.
    """
    strong = [
        at
        for at, cluster in enumerate(clusters)
        if unicodedata.bidirectional(run.text[cluster[0]]) in {"L", "EN", "AN"}
    ]
    if not strong:
        return clusters
    first, last = strong[0], strong[-1] + 1
    return clusters[:first] + clusters[first:last][::-1] + clusters[last:]
