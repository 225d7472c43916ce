"""Turn the JSON reports of benchmarks into rows of the tables of docs/data.

| report | file of docs/data |
|---|---|
| `nsa bench kernels --json` | kernels |
| `nsa bench read --json` on a CPU | reading-cpu, and llama-cpp if llama.cpp was measured |
| `nsa bench read --json` on a GPU | reading-gpu |
| `nsa bench terminal --json` | time-to-answer |
| `examples/ask_questions.py --out FILE` | answers-example |
| `nsa eval similar --json` | answers-long |
| `nsa eval documents --report --json` | answers-documents |
| `examples/compare_twins.py report --json FILE` | twins |
| `nsa eval summaries --report --json` | summaries |

`write_benchmarks.py --from` reads the reports and writes the files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import PurePath
from statistics import median
from typing import Any

Report = dict[str, Any]
Cell = str | list[Any]
"""A text, or a list of texts and figures; a figure is `[value, unit]` or `[value]`."""

NSA_WAYS = {"Random": "nsa", "Recorded": "nsa-recorded", "Union": "nsa-union"}
"""Columns of the kernels' tables, and the attention that each shows."""

_FIRST_POSITION = 64
"""Least position whose loss a table shows: before it, few tokens are measured."""

KERNEL_TABLES = {"paper-gqa": 1, "qwen2.5-0.5b": 2}
"""Number of the table of each shape of `nsa bench kernels`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Rows of one table.

    Attributes:
        file: Name of the file in docs/data, without its suffix.
        table: Number of the table in the file, from 1.
        keys: Number of leading cells that name a row: a row with the same ones is replaced. None
            if the rows replace the whole table.
        rows: The cells of each row.
        caption: Sentence below the table; None keeps the one that is there.
    """

    file: str
    table: int
    keys: int | None
    rows: list[list[Cell]]
    caption: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where and when a report was made: a machine's name in docs/data/machines.json, ISO 8601."""

    machine: str
    date: str


def tables_of(report: Report, source: Source) -> list[Rows]:
    """Return the rows that a report gives.

    Raises:
        ValueError: If it is no report of these commands, or of settings that no table shows.
    """
    kinds: dict[str, Callable[[Report, Source], list[Rows]]] = {
        "checks": kernel_tables,
        "llama_ratios": reading_tables,
        "runs": terminal_tables,
        "counts": example_tables,
        "settings": suite_tables,
        "meetings": summary_tables,
        "systems": document_tables,
        "twins": twin_tables,
    }
    for key, tables in kinds.items():
        if key in report:
            return [each for each in tables(report, source) if each.rows]
    raise ValueError(f"not a report of a benchmark; it has the keys {', '.join(report)}")


def rounded(value: float, digits: int = 3) -> Decimal:
    """Return a value with so many significant digits, but no fewer than its integer has."""
    number = Decimal(str(value))
    if not number:
        return Decimal(0)
    return number.quantize(Decimal(1).scaleb(min(0, number.adjusted() - digits + 1)))


def figure(value: float | None, unit: str = "", digits: int = 3) -> Cell:
    """Return a cell with one figure; an empty cell without a value."""
    if value is None:
        return ""
    return [[rounded(value, digits), *([unit] if unit else [])]]


def percent(share: dict[str, Any]) -> Cell:
    """Return a cell with a share as a whole percentage."""
    value = share["value"]
    return "–" if value is None else [[Decimal(round(100 * value)), "%"]]


def interval(share: dict[str, Any]) -> Cell:
    """Return a cell with the 95 % interval of a share."""
    if share["value"] is None:
        return "–"
    low, high = (Decimal(round(100 * share[end])) for end in ("low", "high"))
    return [[low], " to ", [high, "%"]]


def kernel_tables(report: Report, source: Source) -> list[Rows]:
    """Return the rows of `nsa bench kernels`: one table a shape, and one of decode steps."""
    shape = report["setup"]["shape"].split(" ")[0]
    if shape not in KERNEL_TABLES:
        raise ValueError(f"no table shows the shape {shape}")
    points: dict[tuple[str, int, int], dict[str, float]] = {}
    for row in report["rows"]:
        times = points.setdefault((row["mode"], row["length"], row["batch"]), {})
        if row["p50_ms"] is not None:
            times[row["attention"]] = row["p50_ms"]
    rows: list[list[Cell]] = []
    steps: list[list[Cell]] = []
    for (mode, length, batch), times in points.items():
        tokens = f"{length // 1024}k"
        if mode == "decode":
            steps.append([shape, f"{tokens}, batch {batch}", *step_cells(times), source.date])
            continue
        name = f"Forward{' and backward' if mode == 'backward' else ''}, {tokens}"
        if "nsa-graph" in times:
            rows.append([f"{name}, CUDA graph", *kernel_cells(times, "-graph"), source.date])
            name = f"{name}, eager"
        rows.append([name, *kernel_cells(times, ""), source.date])
    table = KERNEL_TABLES[shape]
    return [
        Rows(file="kernels", table=table, keys=1, rows=rows),
        Rows(file="kernels", table=3, keys=2, rows=steps),
    ]


def kernel_cells(times: dict[str, float], graph: str) -> list[Cell]:
    """Return NSA's times with cuDNN's ratio, and the times of dense attention."""
    flash: list[Any] = []
    for name in ("flash", "fa3"):
        flash += [" / "] if flash else []
        flash += [[rounded(times[name])]] if name in times else ["–"]
    columns = NSA_WAYS.values()
    return [
        *(with_ratio(times.get(each + graph), times.get("cudnn")) for each in columns),
        figure(times.get("cudnn")),
        flash,
    ]


def step_cells(times: dict[str, float]) -> list[Cell]:
    """Return the cells of a decode step: NSA, cuDNN, FlashAttention-2."""
    return [
        with_ratio(times.get("nsa"), times.get("cudnn")),
        *(figure(times.get(each)) for each in ("cudnn", "flash")),
    ]


def with_ratio(time: float | None, dense: float | None) -> Cell:
    """Return a cell with a time in milliseconds, and with dense attention's over it."""
    if time is None:
        return ""
    return [[rounded(time)], *([] if dense is None else [" (", [rounded(dense / time), "x"], ")"])]


def reading_tables(report: Report, source: Source) -> list[Rows]:
    """Return the rows of `nsa bench read` on a CPU, or on a GPU."""
    rows = report["rows"]
    if any(row["device"] != "cpu" for row in rows):
        return gpu_tables(report, source)
    if any(row["random_weights"] for row in rows):
        raise ValueError("the table of a CPU has no random weights")
    speeds = {(row["length"], row["attention"]): row for row in rows}
    reading: list[list[Cell]] = []
    peers: list[list[Cell]] = []
    for length in dict.fromkeys(row["length"] for row in rows):
        found = {name: speeds.get((length, name)) for name in ("nsa", "dense", "llama.cpp")}
        nsa, dense = found["nsa"], found["dense"]
        if nsa is None:
            continue
        options = f", `--quantize {nsa['quantization']}`" if nsa["quantization"] else ""
        reading.append(
            [
                source.machine,
                [[Decimal(length)], *([options] if options else [])],
                *speed_cells([nsa, dense], "prefill_tokens_per_second"),
                figure(nsa["peak_memory_bytes"] / 1e9, "GB"),
                source.date,
            ]
        )
        if found["llama.cpp"] is not None:
            for task, name in (("Read", "prefill"), ("Decode after", "decode")):
                cells = speed_cells(list(found.values()), f"{name}_tokens_per_second")
                peers.append([source.machine, f"{task} {length:,} tokens{options}", *cells])
                peers[-1].append(source.date)
    return [
        Rows(file="reading-cpu", table=1, keys=2, rows=reading),
        Rows(file="llama-cpp", table=1, keys=2, rows=peers),
    ]


def gpu_tables(report: Report, source: Source) -> list[Rows]:
    """Return the rows of `nsa bench read` on a GPU; the model is named by its folder."""
    speeds = {(row["length"], row["attention"]): row for row in report["rows"]}
    name = PurePath(report["settings"]["model"]).name
    reading: list[list[Cell]] = []
    for length in dict.fromkeys(row["length"] for row in report["rows"]):
        nsa, dense = (speeds.get((length, each)) for each in ("nsa", "dense"))
        if nsa is None:
            continue
        by_nsa, by_dense = (
            figure(None if row is None else row["decode_tokens_per_second"], "tokens/s")
            for row in (nsa, dense)
        )
        decoding = ["", by_nsa] if nsa["answer_blocks"] else [by_nsa, ""]
        reading.append(
            [
                name,
                source.machine,
                [[Decimal(length)]],
                *speed_cells([nsa, dense], "prefill_tokens_per_second"),
                figure(nsa["peak_device_memory_bytes"] / 1e9, "GB"),
                *(*decoding, by_dense),
                source.date,
            ]
        )
    return [Rows(file="reading-gpu", table=1, keys=3, rows=reading)]


def speed_cells(rows: Sequence[dict[str, Any] | None], name: str) -> list[Cell]:
    """Return the speeds of NSA and its peers, and the ratio of NSA to the last peer."""
    values = [None if row is None else row[name] for row in rows]
    ratio = None if values[-1] is None else values[0] / values[-1]
    return [*(figure(each, "tokens/s") for each in values), figure(ratio)]


def terminal_tables(report: Report, source: Source) -> list[Rows]:
    """Return the row of `nsa bench terminal`: the median of its runs."""
    options = f", `--quantize {report['quantization']}`" if report["quantization"] else ""
    kind = "First, reads the document" if report["no_store"] else "Later, in a new process"

    def middle(name: str) -> Cell:
        return figure(median(run[name] for run in report["runs"]), "s", 2)

    row: list[Cell] = [
        source.machine,
        PurePath(report["document"]).name,
        f"{kind}{options}",
        *map(middle, ("first_word_seconds", "total_seconds", "silence_seconds")),
        figure(max(run["load_average"] for run in report["runs"]), digits=2),
        source.date,
    ]
    return [Rows(file="time-to-answer", table=1, keys=3, rows=[row])]


def example_tables(report: Report, source: Source) -> list[Rows]:
    """Return the row of `ask_questions.py`: what was right under the given options."""
    if len(report["rows"]) != report["questions"]:
        asked = f"{len(report['rows'])} of {report['questions']}"
        raise ValueError(f"only {asked} questions were asked; run the command again")
    counts = report["counts"]
    options = f"`{' '.join(report['options'])}`" if report["options"] else "Default"
    row: list[Cell] = [
        source.machine,
        options,
        *([[Decimal(counts[name])]] for name in ("right", "first", "among", "verified")),
        source.date,
    ]
    return [Rows(file="answers-example", table=1, keys=2, rows=[row])]


def suite_tables(report: Report, source: Source) -> list[Rows]:
    """Return the rows of `nsa eval similar`, one for each setting and length."""
    rows = [
        [
            suite_options(row),
            [[Decimal(row["length"])]],
            [[Decimal(row["questions"])]],
            percent(row["contains_gold"]),
            interval(row["contains_gold"]),
            percent(row["citation_hit_1"]),
            source.machine,
            source.date,
        ]
        for row in report["rows"]
        if row["suite"] == "similar"
    ]
    if not rows:
        raise ValueError("the table of nsa eval is of the suite similar; the report has none of it")
    return [Rows(file="answers-long", table=1, keys=2, rows=rows)]


def suite_options(row: dict[str, Any]) -> str:
    """Return the options of a row of `nsa eval` that change the result."""
    parts = ["`--yarn`" if row.get("yarn") else "In windows (the default)"]
    parts += [] if row["blocks"] == "all" else [f"`--answer-blocks {row['blocks']}`"]
    parts += [] if row["attention"] == "nsa" else [f"`--attention {row['attention']}`"]
    return ", ".join(parts)


def document_tables(report: Report, source: Source) -> list[Rows]:
    """Return the table of `nsa eval documents`, which replaces the earlier one."""
    rows = [document_row(each) for each in report["systems"] if each["f1"] is None]
    caption = (
        f"{source.machine}, {source.date}: {report['questions']} of "
        f"{report['questions_of_the_suite']} questions about {report['documents']} documents; "
        f"digest of the questions `{report['digest'][:12]}`."
    )
    return [Rows(file="answers-documents", table=1, keys=None, rows=rows, caption=caption)]


def document_row(system: dict[str, Any]) -> list[Cell]:
    """Return the row of one setting and way."""
    pages = "found" if system["way"] == "find" else "cited"
    verified, right = system["right_when_verified"], system["right"]
    shown_verified = percent(verified)
    if isinstance(shown_verified, list):
        shown_verified = [*shown_verified, " of ", [Decimal(verified["of"])]]
    computed = system["kinds"].get("computed")
    return [
        system["setting"],
        f"`{system['way']}`",
        [[Decimal(system["questions"])]],
        percent(right),
        interval(right),
        percent(system[f"{pages}_first"]),
        percent(system[f"{pages}_among_3"]),
        percent(system["unanswerable_declined"]),
        percent(system["answerable_declined"]),
        shown_verified,
        "–" if computed is None else percent(computed["right"]),
    ]


def twin_tables(report: Report, source: Source) -> list[Rows]:
    """Return the tables of `compare_twins.py`, which replace the earlier ones."""
    caption = f"{source.machine}, {source.date}."
    tables: list[list[list[Cell]]] = [
        [measure_row(each) for each in report["measures"]],
        [
            [[[Decimal(row["first"])]], *loss_cells(row["scores"])]
            for row in report["loss"]
            if row["first"] >= _FIRST_POSITION
        ],
        needle_rows(report["needle"]),
        course_rows(report["course"]),
        decode_rows(report["decode"]),
    ]
    return [
        Rows(file="twins", table=number, keys=None, rows=rows, caption=caption)
        for number, rows in enumerate(tables, start=1)
    ]


def measure_row(row: dict[str, Any]) -> list[Cell]:
    """Return the row of a measure; a share is in percent, a loss in nats a token."""
    if row["chance"] is None:
        scale, places, unit = 1.0, 4, []
    else:
        scale, places, unit = 100.0, 1, ["%"]

    def shown(value: float) -> Cell:
        return [[Decimal(f"{scale * value:.{places}f}"), *unit]]

    low, high = (Decimal(f"{scale * row[end]:.{places}f}") for end in ("low", "high"))
    return [
        row["measure"],
        [[Decimal(row["texts"])]],
        "" if row["chance"] is None else shown(row["chance"]),
        *map(shown, row["scores"]),
        [[low], " to ", [high, *unit]],
        row["verdict"],
    ]


def loss_cells(scores: Sequence[float]) -> list[Cell]:
    """Return the cells of two losses, and by how much the first is above the second."""
    nsa, dense = (Decimal(f"{score:.4f}") for score in scores)
    above = Decimal(f"{100 * (scores[0] / scores[1] - 1):.2f}")
    return [[[nsa]], [[dense]], [[above, "%"]]]


def needle_rows(found: Sequence[dict[str, Any]]) -> list[list[Cell]]:
    """Return a row for each length: the mean of all depths, and the worst depth, of each twin."""
    rows: list[list[Cell]] = []
    for tokens in dict.fromkeys(row["tokens"] for row in found):
        same = [row["scores"] for row in found if row["tokens"] == tokens]
        values = [(sum(each) / len(each), min(each)) for each in zip(*same, strict=True)]
        cells = [percent({"value": value}) for pair in values for value in pair]
        rows.append([[[Decimal(tokens)]], *cells])
    return rows


def course_rows(course: Sequence[Sequence[dict[str, Any]]]) -> list[list[Cell]]:
    """Return a row for each step with a held-out loss of both twins."""
    losses = [{row["tokens"]: row["loss"] for row in each} for each in course]
    if not losses:
        return []
    return [
        [figure(tokens / 1e6, "M"), *loss_cells([each[tokens] for each in losses])]
        for tokens in losses[0]
        if tokens in losses[1]
    ]


def decode_rows(decode: Sequence[Sequence[dict[str, Any]]]) -> list[list[Cell]]:
    """Return a row for each batch: speed and memory of each twin."""
    points = [{(row["context"], row["batch"]): row for row in each} for each in decode]
    rows: list[list[Cell]] = []
    for context, batch in sorted(set().union(*points)):
        found = [each.get((context, batch)) for each in points]
        memory = [None if row is None else row.get("memory_gb") for row in found]
        name: Cell = [[Decimal(context // 1024), "k"], ", batch ", [Decimal(batch)]]
        speeds = [None if row is None else row["tokens_per_second"] for row in found]
        ratio = None if None in speeds else speeds[0] / speeds[1]
        cells = [figure(each) for each in (*speeds, ratio)]
        rows.append([name, *cells, *(figure(each, "GB") for each in memory)])
    return rows


def summary_tables(report: Report, source: Source) -> list[Rows]:
    """Return the tables of `nsa eval summaries`: shares, and ratios of coverage."""
    shares = [
        [
            str(each["setting"]).split(", ", 1)[0],
            each["way"],
            [[Decimal(each["meetings"])]],
            [[Decimal(round(each["words"]))]],
            percent(each["coverage"]),
            interval(each["coverage"]),
            percent(each["coverage_without_speakers"]),
            percent(each["supported"]),
            percent(each["supported_by_quote"]),
            "–" if each["rouge_lsum"] is None else figure(100 * each["rouge_lsum"]),
            figure(each["seconds"], "s", 2),
        ]
        for each in report["systems"]
    ]
    ratios = [
        [
            str(each["setting"]).split(", ", 1)[0],
            each["first"],
            each["second"],
            [[Decimal(each["meetings"])]],
            figure(each["coverage_ratio"]),
            [[rounded(each["low"])], " to ", [rounded(each["high"])]],
        ]
        for each in report["pairs"]
        if each["coverage_ratio"] is not None
    ]
    caption = f"{source.machine}, {source.date}."
    return [
        Rows(file="summaries", table=1, keys=None, rows=shares, caption=caption),
        Rows(file="summaries", table=2, keys=None, rows=ratios, caption=caption),
    ]


def merged(table: dict[str, Any], new: Rows) -> dict[str, Any]:
    """Return a table of docs/data with new rows.

    A row whose leading cells are those of a new row is replaced; another row is added below the
    rows that share its first cell.

    Raises:
        ValueError: If a new row has another number of cells than the table has columns.
    """
    for row in new.rows:
        if len(row) != len(table["columns"]):
            raise ValueError(f"{len(row)} cells for {len(table['columns'])} columns: {row}")
    rows = [] if new.keys is None else list(table["rows"])
    for row in new.rows:
        key = row[: new.keys] if new.keys else None
        same = positions(rows, lambda other, key=key: other[: new.keys] == key) if key else []
        kin = positions(rows, lambda other, row=row: other[0] == row[0])
        if same:
            rows[same[0]] = row
        else:
            rows.insert(kin[-1] + 1 if kin and new.keys else len(rows), row)
    caption = {} if new.caption is None else {"caption": new.caption}
    return {**table, "rows": rows, **caption}


def positions(rows: Iterable[list[Cell]], fits: Callable[[list[Cell]], bool]) -> list[int]:
    """Return the positions of rows that fit."""
    return [at for at, row in enumerate(rows) if fits(row)]
