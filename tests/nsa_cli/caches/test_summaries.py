"""Stored summaries are found only for the same request about the same bytes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from nsa_cli.caches.summaries import SummaryCache
from nsa_cli.config.options import Options
from nsa_cli.config.summary_length import SummaryLength, SummaryRequest
from nsa_cli.documents import Location
from nsa_cli.results import Citation, DocumentSummary, Statement
from nsa_cli.summaries.prompts import prompts_of
from nsa_models.model_folder import ModelFolder

PLACE = Location(source="a.txt", page=2, page_label="ii", line_start=1, line_end=3)
CITATION = Citation(**asdict(PLACE), quote="The pier cost 4,200 crowns.", score=0.5, verified=True)
STATEMENT = Statement(
    section="1. Piers", place=PLACE, text="The pier cost 4,200.", citations=(CITATION,)
)
MADE = DocumentSummary(
    source="a.txt",
    overview=(replace(STATEMENT, section=None, place=None, verbatim=True),),
    statements=(STATEMENT,),
    document_tokens=300,
    reused_tokens=64,
    warnings=("no text on page 3",),
)
REQUEST = SummaryRequest(length=SummaryLength(240))
WHERE = ModelFolder(name="m", folder=Path("m"), fingerprint="f")
OPTIONS = Options(model="m")


def make(
    content: bytes = b"text",
    source: str = "a.txt",
    where: ModelFolder = WHERE,
    asked: dict[str, Any] | None = None,
    request: SummaryRequest = REQUEST,
    **changes: Any,
) -> SummaryCache:
    asked = {**asdict(request), "prompts": prompts_of(request), **(asked or {})}
    return SummaryCache(content, source, asked, where, replace(OPTIONS, **changes))


def keep(cache: SummaryCache) -> None:
    cache.keep(MADE, ["a.txt"], ["0" * 32])


def test_a_summary_is_found(cache_folder: Path) -> None:
    assert make().recall() is None
    keep(make())
    assert make().recall() == replace(MADE, reused_tokens=300, is_kept=True)
    assert [path.suffix for path in (cache_folder / "answers").iterdir()] == [".json"]


@pytest.mark.parametrize(
    "other",
    [
        lambda: make(content=b"texts"),
        lambda: make(source="b.txt"),
        lambda: make(where=replace(WHERE, fingerprint="g")),
        lambda: make(dense=True),
        lambda: make(every_line=True),
        lambda: make(request=replace(REQUEST, focus="rent")),
        lambda: make(request=replace(REQUEST, outline=True)),
        lambda: make(request=replace(REQUEST, length=SummaryLength(120))),
        lambda: make(request=replace(REQUEST, length=SummaryLength(240, exact=True))),
        lambda: make(asked={"prompts": ["Another wording."]}),
    ],
)
def test_other_requests_have_other_summaries(other: Callable[[], SummaryCache]) -> None:
    keep(make())
    assert other().recall() is None
    assert make().recall() is not None


@pytest.mark.parametrize("changes", [{"store": False}, {"temperature": 0.5}])
def test_some_summaries_are_not_stored(changes: dict[str, Any], cache_folder: Path) -> None:
    keep(make(**changes))
    assert not cache_folder.exists()
    keep(make())
    assert make(**changes).recall() is None


@pytest.mark.parametrize("lost", ["overview", "statements", "warnings", "document_tokens"])
def test_a_file_of_another_shape_is_ignored(cache_folder: Path, lost: str) -> None:
    from nsa_cli.caches import json_files

    keep(make())
    [path] = (cache_folder / "answers").glob("*.json")
    content = json.loads(path.read_text())
    del content["checksum"], content[lost]
    json_files.write(path, content, most=10)
    assert make().recall() is None
