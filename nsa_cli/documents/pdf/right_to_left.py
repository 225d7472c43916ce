"""Hebrew, Arabic and their kin in the order in which they are read."""

from __future__ import annotations

import unicodedata
from itertools import pairwise

from nsa_cli.documents.pdf.runs import Run


def is_right_to_left(char: str) -> bool:
    """Whether a character belongs to a script that is written from right to left."""
    return char > "\u0590" and unicodedata.bidirectional(char) in {"R", "AL"}


def to_logical_order(run: Run) -> None:
    """Turn a run round whose glyphs stand from left to right although they are read otherwise.

    Numbers and words of other scripts in it keep their order.
    """
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
