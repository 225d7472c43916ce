"""docs/benchmarks.md and the README: every figure is in a file of docs/data."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Callable, Iterator
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
MACHINE_COLUMN = "Machine"
LIMITS = "limits"
"""The file of the known limits, which repeats figures of other files."""

README_SECTIONS = ("What to expect", "Measured")
GUIDE = [
    ROOT / "README.md",
    *sorted((ROOT / "docs" / "guide").glob("*.md")),
    *sorted((ROOT / "docs" / "concepts").glob("*.md")),
]
_DIGITS = r"\d+(?:,\d{3})*(?:\.\d+)?"
NUMBER = re.compile(rf"(?<![\w.,/-]){_DIGITS}")
UNITS = {"seconds": "s", "minutes": "min", "times": "x"} | {
    unit: unit for unit in ("%", "tokens/s", "points", "GB", "MB", "kB", "ms", "s", "min")
}
"""Units of measured figures, each with its spelling in the data."""

FIGURE = re.compile(
    rf"(?<![\w.,/-])({_DIGITS})(?: to ({_DIGITS}))?\s({'|'.join(UNITS)})(?!\w)", re.ASCII
)
SET_BY_THE_PROGRAM = {
    (Decimal(value), unit)
    for value, unit in [("1.5", "points"), ("1", "GB"), ("512", "MB"), ("6", "GB"), ("20", "GB")]
}
"""Figures that the program sets, such as its limits: they are not measured."""

Figure = tuple[Decimal, str]


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


def prose(text: str) -> str:
    """Tables and prose of a page; code, targets of links and comments are left out."""
    for what in (FENCE, r"`[^`]*`", r"(?<=\])\([^)]*\)", r"<!--.*?-->", r"(?m)^\d+\. "):
        text = re.sub(what, " ", text)
    return text


def shown_numbers(text: str) -> list[Decimal]:
    """Numbers of a page's tables and prose."""
    return [Decimal(each.replace(",", "")) for each in NUMBER.findall(prose(text))]


def shown_figures(text: str) -> set[Figure]:
    """Values with their units in a text; both ends of a range."""
    return {
        (Decimal(value.replace(",", "")), UNITS[found[3]])
        for found in FIGURE.finditer(text)
        for value in (found[1], found[2])
        if value
    }


def figures_with_units(content: object, unit: str = "") -> set[Figure]:
    """Values with their units in a part of a file: figures, cells, and texts of cells.

    The first value of a range (`[[2], " to ", [4, "s"]]`) has the unit of the last one.
    """
    if isinstance(content, str):
        return shown_figures(content)
    if isinstance(content, dict):
        own = content.get("unit", unit)
        return set().union(*(figures_with_units(each, own) for each in content.values()))
    if not isinstance(content, list):
        return set()
    match content:
        case [str(), Decimal() as value, str(own)] | [Decimal() as value, str(own)]:
            return {(value, own)}
        case [Decimal() as value]:
            return {(value, unit)}
        case [[Decimal() as value], " to ", [Decimal(), str(own)], *_]:
            return {(value, own)}.union(*(figures_with_units(each, unit) for each in content))
    return set().union(*(figures_with_units(each, unit) for each in content))


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
    if path.stem not in (MACHINES, LIMITS):
        assert found["dates"]
        assert found["machines"]
        assert found["commands"]
    for table in found["tables"]:
        if MACHINE_COLUMN in table["columns"]:
            at = table["columns"].index(MACHINE_COLUMN)
            assert {row[at] for row in table["rows"]} <= machines
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


def row(name: str, *begin: str, table: int = 1) -> dict[str, str]:
    """The cells of the only row of a file that begins with some cells, by column."""
    content = writer().load(DATA / f"{name}.json")["tables"][table - 1]
    rows = [[writer().cell(each) for each in cells] for cells in content["rows"]]
    [found] = [cells for cells in rows if cells[: len(begin)] == list(begin)]
    return dict(zip(content["columns"], found, strict=True))


def figure(name: str, what: str) -> str:
    """A figure of a file's prose, as a page shows it."""
    [found] = [each for each in writer().load(DATA / f"{name}.json")["figures"] if each[0] == what]
    return str(writer().shown(found[1:]))


def answers_of_the_readme() -> Iterator[str]:
    """Claims of the section "What to expect", with their figures from the data."""
    larger, smaller = "qwen2.5-coder-1.5b", "qwen2.5-coder-0.5b"
    shipped = row("answers-documents", f"{smaller} reads, {larger} answers (the default)", "`nsa`")
    columns = ("Right", "Page cited first", "Among three")
    for name, model, way in (
        (f"{shipped['Questions']} hard questions about 41 real PDFs", shipped, ""),
        (f"the same, `--model {larger}`", larger, "`nsa`"),
        (f"the same, `--answer-model {smaller}`", smaller, "`words`"),
        ("the larger model with the best chunks by BM25 instead of reading", larger, "`chunks`"),
    ):
        found = model if isinstance(model, dict) else row("answers-documents", model, way)
        assert found["Questions"] == shipped["Questions"]
        yield f"| {name} | {' | '.join(found[each] for each in columns)} |"
    example = row("answers-example", "CPU-AVX2", "Two models, the default")
    columns = ("Right answers", "Right page first", "Among three citations")
    shown = " | ".join(f"{example[each]} of 20" for each in columns)
    yield f"| 20 questions about the example, 50 pages | {shown} |"
    lookups = figure("answers-documents", "Right answers to lookups, the default")
    yield f"Of the questions that look something up, {lookups} are right."
    yield f"It did so for {shipped['Unanswerable, declined']} of such questions"
    yield f"wrongly for {shipped['Answerable, declined']} of the others"
    share, count = shipped["Right when verified"].split(" of ")
    yield f"Of {count} answers with a verified first citation, {share} were right."
    yield f"{shipped['Computed, right']} of the questions that need arithmetic were right."
    both = "Whole answer about a text that was read before, two models, {}, rounded"
    one = "Whole answer about a text that was read before, one model, {}, rounded"
    least, most = (figure("time-to-answer", both.format(end)) for end in ("least", "most"))
    yield f"takes {least.removesuffix(' s')} to {most.removesuffix(' s')} seconds."
    least, most = (figure("time-to-answer", one.format(end)) for end in ("least", "most"))
    yield f"takes {least.removesuffix(' s')} to {most.removesuffix(' s')}."


def speeds_of_the_readme() -> Iterator[str]:
    """Claims of the section "Measured", with their figures from the data."""
    for what, name, begin in (
        ("30,000 tokens, two cores with AMX", "reading-cpu", ("CPU-AMX", "30,000")),
        ("65,536 tokens, two cores with AVX-512", "reading-cpu", ("CPU-512", "65,536")),
        ("1,048,576 tokens, one H200", "reading-gpu", ("0.5B", "H200", "1,048,576")),
    ):
        found = row(name, *begin)
        ratio = Decimal(found["Ratio"]).quantize(Decimal("0.1"))
        yield f"| Reading {what} | {found['NSA']} | {found['Dense']} | {ratio} |"
    alone = row("kernels", "Forward, 64k")
    nsa, ratio = re.findall(r"[\d.]+", alone["Random"])
    ratio = Decimal(ratio).quantize(Decimal("0.1"))
    yield (
        "| Attention alone, forward, 65,536 tokens, one H200 (dense: cuDNN) "
        f"| {nsa} ms | {alone['cuDNN']} ms | {ratio} |"
    )
    times = [
        figure("llama-cpp", f"{what}, {end}, rounded").removesuffix("x")
        for what in ("Reading, NSA over llama.cpp", "Decoding, llama.cpp over NSA")
        for end in ("least", "most")
    ]
    yield "nsa reads a text {} to {} times as fast as llama.cpp".format(*times[:2])
    yield "llama.cpp decodes an answer {} to {} times as fast as nsa".format(*times[2:])


def flat(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize(
    ("heading", "claims"),
    [("What to expect", answers_of_the_readme), ("Measured", speeds_of_the_readme)],
)
def test_the_readme_repeats_the_data(heading: str, claims: Callable[[], Iterator[str]]) -> None:
    text = flat(sections(ROOT / "README.md")[heading])
    assert [claim for claim in claims() if claim not in text] == []


def test_the_readme_repeats_the_times_of_reading() -> None:
    amx, avx2 = (
        row("time-to-answer", machine, text, table=2)["Reading"]
        for machine, text in (
            ("CPU-AMX", "the example, 23,039 tokens"),
            ("CPU-AVX2", "the example"),
        )
    )
    text = flat(sections(ROOT / "README.md")["Install"])
    assert f"reading the 50 pages takes {amx} with AMX and {avx2} with AVX2 alone" in text


@cache
def measured() -> set[Figure]:
    """All figures of the data with their units."""
    parts = ([found["tables"], found["figures"]] for found in data().values())
    return set().union(*map(figures_with_units, parts))


@pytest.mark.parametrize("page", GUIDE, ids=name_of)
def test_figures_of_readme_and_guide_are_measured(page: Path) -> None:
    missing = shown_figures(prose(text_of(page))) - measured() - SET_BY_THE_PROGRAM
    assert not missing, "add these to a file of docs/data"


def test_a_changed_figure_of_the_guide_is_found() -> None:
    text = prose(text_of(ROOT / "docs" / "guide" / "install.md"))
    assert "491 MB" in text
    assert shown_figures(text.replace("491 MB", "499 MB")) - measured() == {(Decimal(499), "MB")}
    assert shown_figures("2 to 5 times, 1,024.5 kB, `3 s`, 7 strings") == {
        (Decimal(2), "x"),
        (Decimal(5), "x"),
        (Decimal("1024.5"), "kB"),
        (Decimal(3), "s"),
    }


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
