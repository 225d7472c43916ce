"""docs/benchmarks.md and the README: every figure is in a file of docs/data."""

from __future__ import annotations

import importlib.util
import re
import sys
from decimal import Decimal
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.test_docs import FENCE, text_of

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"
DATA = ROOT / "docs" / "data"
FILES = sorted(DATA.glob("*.json"))
MACHINES = "machines"
README_SECTIONS = ("What to expect", "Measured")
NUMBER = re.compile(r"(?<![\w.,/-])\d+(?:,\d{3})*(?:\.\d+)?")


def script(name: str) -> ModuleType:
    """A script of examples as a module, which other scripts can import."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def reports() -> ModuleType:
    return script("benchmark_reports")


@cache
def writer() -> ModuleType:
    reports()
    return script("write_benchmarks")


def name_of(path: Path) -> str:
    return path.stem


@cache
def data() -> dict[str, dict[str, Any]]:
    """The files of docs/data by the heading that each belongs to."""
    return {found["question"]: found for found in map(writer().load, FILES)}


def numbers_in(content: object) -> set[Decimal]:
    """All numbers of a part of a file, those in texts included."""
    if isinstance(content, Decimal):
        return {content}
    if isinstance(content, str):
        return {Decimal(each.replace(",", "")) for each in NUMBER.findall(content)}
    parts = [*content, *content.values()] if isinstance(content, dict) else content
    assert isinstance(parts, list)
    return set().union(*map(numbers_in, parts))


def figures(found: dict[str, Any]) -> set[Decimal]:
    days = {Decimal(part) for date in found["dates"] for part in date.split("-")}
    return numbers_in([found[key] for key in ("question", "tables", "figures")]) | days


def shown_numbers(text: str) -> list[Decimal]:
    """Numbers of a page's tables and prose; code, targets of links and comments have none."""
    for what in (FENCE, r"`[^`]*`", r"(?<=\])\([^)]*\)", r"<!--.*?-->", r"(?m)^\d+\. "):
        text = re.sub(what, " ", text)
    return [Decimal(each.replace(",", "")) for each in NUMBER.findall(text)]


def sections(page: Path) -> dict[str, str]:
    parts = re.split(r"(?m)^#+ (.*)$", text_of(page))
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_the_tables_are_current() -> None:
    for path in writer().PAGES:
        text = text_of(path)
        assert writer().page(text) == text, "run make bench-docs"


def test_a_changed_figure_makes_the_page_stale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in FILES:
        text = text_of(path).replace('[722, "tokens/s"]', '[733, "tokens/s"]')
        (tmp_path / path.name).write_text(text, "utf-8")
    monkeypatch.setattr(writer(), "DATA", tmp_path)
    text = text_of(PAGE)
    assert writer().page(text) == text.replace("722 tokens/s", "733 tokens/s") != text
    assert writer().main(["--check"]) == 1


def test_cells_keep_their_digits(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('[[1.40, "x"], " of ", [65536], "; ", [0.80, "ms"], ", ", [96, "%"]]', "utf-8")
    assert writer().cell(writer().load(path)) == "1.40x of 65,536; 0.80 ms, 96 %"


def test_a_row_with_too_few_cells_is_an_error() -> None:
    with pytest.raises(ValueError, match="1 cells for 2 columns"):
        writer().table({"columns": ["a", "b"], "rows": [["c"]]})


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_file_says_where_and_when(path: Path) -> None:
    found = writer().load(path)
    machines = {row[0] for row in writer().load(path.with_stem(MACHINES))["tables"][0]["rows"]}
    assert set(found["machines"]) <= machines
    assert all(re.fullmatch(r"\d{4}-\d\d(-\d\d)?", date) for date in found["dates"])
    measured = any(table.get("rows") for table in found["tables"]) and path.stem != MACHINES
    assert not measured or found["dates"]
    pages = "".join(map(text_of, writer().PAGES))
    used = re.findall(rf"<!-- table: {path.stem} (\d+) -->", pages)
    assert used == [str(number) for number, _ in enumerate(found["tables"], start=1)]


@pytest.mark.parametrize("heading", sections(PAGE))
def test_figures_of_the_page_are_in_its_data(heading: str) -> None:
    text = sections(PAGE)[heading]
    numbers = shown_numbers(f"{heading}\n{text}")
    if numbers:
        missing = [each for each in numbers if each not in figures(data()[heading])]
        assert not missing
    commands = [line for _, body in FENCE.findall(text) for line in body.splitlines()]
    assert not commands or commands == data()[heading]["commands"]


def test_the_lines_of_the_help_are_counted() -> None:
    shown = ROOT / "tests" / "nsa_cli" / "cli" / "golden" / "help-ask.txt"
    figures_ = writer().load(PAGE.parent / "data" / "time-to-answer.json")["figures"]
    assert ["Lines of nsa ask --help", len(shown.read_text().splitlines())] in figures_


def test_data_belongs_to_a_section() -> None:
    assert data().keys() <= sections(PAGE).keys()


@pytest.mark.parametrize("heading", README_SECTIONS)
def test_figures_of_the_readme_are_measured(heading: str) -> None:
    """Each is in the data, or is a figure of the data with fewer decimals."""
    known = set().union(*map(figures, data().values()))
    missing = []
    for number in shown_numbers(sections(ROOT / "README.md")[heading]):
        digits = number.as_tuple().exponent
        assert isinstance(digits, int)
        rounded = {each.quantize(number) for each in known} if digits < 0 else set()
        if number not in known | rounded:
            missing.append(number)
    assert not missing


def bounds(number: Decimal) -> tuple[Decimal, Decimal]:
    """The least and the largest value that is written so, with three digits at least."""
    exponent = number.as_tuple().exponent
    assert isinstance(exponent, int)
    half = max(Decimal(1).scaleb(exponent), Decimal(1).scaleb(number.adjusted() - 2)) / 2
    return number - half, number + half


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_ratios_are_those_of_their_row(path: Path) -> None:
    for table in writer().load(path)["tables"]:
        if not {"NSA", "Dense", "Ratio"} <= set(table["columns"]):
            continue
        for row in table["rows"]:
            cells = dict(zip(table["columns"], row, strict=True))
            if cells["Ratio"]:
                nsa, dense, ratio = (bounds(cells[key][0][0]) for key in ("NSA", "Dense", "Ratio"))
                assert nsa[0] / dense[1] <= ratio[1], row
                assert nsa[1] / dense[0] >= ratio[0], row
