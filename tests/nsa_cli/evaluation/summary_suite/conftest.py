"""A file of made-up meetings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

TURNS = [
    ["Chair", "We meet on 3 May 2021 to plan the harbor . {vocalsound}"],
    ["Engineer", "The crane costs 4,200 crowns , and I 've asked Mira Lund to test it ."],
    ["Chair", "{disfmarker}"],
    ["Engineer", "It must be repaired by the summer , says the harbor office ."],
    ["Chair", "Then the harbor planning committee agrees to repair the crane ."],
]


def meeting(title: str, more: int = 0) -> dict[str, Any]:
    filler = [["Engineer", f"The worker of line {n} wrote report {n * 7} ."] for n in range(more)]
    return {
        "title": title,
        "turns": [*TURNS, *filler],
        "questions": [
            {"question": "Why?", "answers": ["Since it broke."], "turns": [[1, 2]]},
            {
                "question": "Summarize the meeting",
                "answers": ["Chair opened on 3 May 2021. The crane of Mira Lund costs 4,200."],
                "turns": None,
            },
        ],
    }


@pytest.fixture
def meetings_file(tmp_path: Path) -> Path:
    """Three meetings of rising length, the shortest in the middle."""
    path = tmp_path / "meetings.jsonl"
    rows = [meeting("two", 12), meeting("one"), meeting("three", 90)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
