"""Measures models that `nsa pretrain` trained, and compares two of them on the same texts.

    python examples/compare_twins.py measure nsa/ --shards shards/ --out nsa.jsonl
    python examples/compare_twins.py measure dense/ --shards shards/ --out dense.jsonl
    python examples/compare_twins.py decode nsa/ --graphs --compile --out nsa-decode.jsonl
    python examples/compare_twins.py report nsa.jsonl dense.jsonl

`measure` appends a line of JSON for each text: losses of held-out documents by position, and right
answers of the tasks of `nsa_models.tasks.recall`, with held-out documents as noise. `decode` times
decoding of the whole model after a prefill of random tokens, with `--graphs` in CUDA graphs.
`report` prints tables in Markdown, and writes the report for `write_benchmarks.py --from` with
`--json`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from decode_twins import BACKENDS, FUSED, TRITON, decode_times, fastest_rows
from recall_shards import noise_of

from nsa_cli.evaluation.recall import LOSS, Row, TextName, compare, loss_rows, recall_rows
from nsa_cli.training.pretrain import start_with
from nsa_models.cache.layer_devices import pick_device
from nsa_models.modeling.model import NSALanguageModel
from nsa_models.tasks.recall import RECALL_TASKS, RecallText, recall_text
from nsa_models.tokenization.tokenizer import Tokenizer
from nsa_models.training.initial import initial_model
from nsa_models.training.shards import open_shards
from nsa_models.training.token_losses import TokenLosses
from nsa_models.weights.load import load_config

NEEDLE = "needle"
_NOISE_TOKENS = 1_000_000
LEVELS = ("ahead", "level")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = parser.add_subparsers(dest="part", required=True)
    measure = parts.add_parser("measure", help="losses and right answers of a model")
    measure.add_argument("model", type=Path)
    measure.add_argument("--shards", type=Path, required=True)
    measure.add_argument("--context", type=int, default=16_384)
    measure.add_argument("--lengths", default="2048,4096,8192", help="shorter texts with a needle")
    measure.add_argument("--texts", type=int, default=16, help="texts of a task")
    measure.add_argument("--needles", type=int, default=8, help="texts of a depth")
    measure.add_argument("--depths", type=int, default=11)
    measure.add_argument("--documents", type=int, default=100, help="most documents for the loss")
    decode = parts.add_parser("decode", help="decoding speed of a model")
    decode.add_argument("model", type=Path)
    decode.add_argument("--context", type=int, default=65_536)
    decode.add_argument("--batches", default="1,16")
    decode.add_argument("--steps", type=int, default=20)
    decode.add_argument("--graphs", action="store_true", help="decode in CUDA graphs")
    decode.add_argument("--compile", action="store_true", help="compile the layers, too")
    decode.add_argument(
        "--dense-by",
        choices=[TRITON, FUSED, *BACKENDS],
        help="dense attention; with --graphs the fastest one when not given",
    )
    decode.add_argument("--chunk", type=int, default=4096, help="tokens of a pass of the prefill")
    for each in (measure, decode):
        each.add_argument("--device", default="auto")
        each.add_argument("--out", type=Path, required=True, help="file to append the lines to")
    report = parts.add_parser("report", help="compare two models")
    report.add_argument("first", type=Path)
    report.add_argument("second", type=Path)
    report.add_argument("--names", default="NSA,dense")
    report.add_argument("--json", type=Path, default=None, help="file for the report")
    report.add_argument("--runs", type=Path, nargs=2, default=[], help="folders with heldout.jsonl")
    report.add_argument("--decode", type=Path, nargs=2, default=[], help="files of `decode`")
    report.add_argument("--date", default=None, help="day of the measurement; today")
    return parser.parse_args()


def model_of(folder: Path, device: torch.device) -> NSALanguageModel:
    """The model of a folder in fp32, as `nsa pretrain` computes its held-out loss."""
    model = initial_model(load_config(folder)[0], 0, device)
    start_with(model, folder)
    return model.eval()


def texts_of(
    args: argparse.Namespace, noise: list[list[int]], encode: Callable[[str], Any]
) -> Iterator[tuple[TextName, RecallText]]:
    """All texts of the tasks, those of one length together."""
    depths = [n / max(1, args.depths - 1) for n in range(args.depths)]
    needles = [(depth, number) for number in range(args.needles) for depth in depths]
    for length in [args.context, *map(int, args.lengths.split(","))]:
        plain = [(None, number) for number in range(args.texts)] if length == args.context else []
        for task in RECALL_TASKS:
            for depth, number in needles if task == NEEDLE else plain:
                name = TextName(measure=task, tokens=length, depth=depth, number=number)
                yield (
                    name,
                    recall_text(task, noise, encode, tokens=length, seed=number, depth=depth),
                )


def measure(args: argparse.Namespace) -> Iterator[Row]:
    """Measure a model; yield its rows."""
    device = pick_device(args.device)
    shards, tokenizer = open_shards([args.shards]), Tokenizer.from_folder(args.shards)

    @lru_cache(maxsize=1 << 16)
    def encode(text: str) -> tuple[int, ...]:
        return tuple(int(n) for n in tokenizer.encode(text))

    losses = TokenLosses(model_of(args.model, device), 4096)
    edges = [0, *(2**n for n in range(6, 24) if 2**n < args.context), args.context]
    yield from loss_rows(
        *(losses, shards.heldout),
        tokens=args.context,
        limit=args.documents,
        edges=edges,
    )
    noise = noise_of(shards.heldout, tokenizer, _NOISE_TOKENS)
    yield from recall_rows(losses, list(texts_of(args, noise, encode)))


def decode(args: argparse.Namespace) -> Iterator[Row]:
    """Time decoding steps; yield a row for each batch size."""
    device = pick_device(args.device)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    yield from decode_times(model_of(args.model, device).to(dtype), args)


def write(rows: Iterator[Row], path: Path) -> None:
    """Append rows to a file as they come."""
    with path.open("a", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row) + "\n")
            file.flush()


def read(path: Path) -> list[Row]:
    """The rows of a file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def measures_of(rows: list[Row]) -> dict[str, list[Row]]:
    """Rows by measure: losses of early and late positions, and tasks at the longest length."""
    longest = max(row["tokens"] for row in rows)
    found: dict[str, list[Row]] = {}
    for row in rows:
        name = row["measure"]
        if name == LOSS:
            name = f"loss {'from' if row['first'] >= longest // 4 else 'below'} {longest // 4:,}"
        if row["tokens"] == longest:
            found.setdefault(name, []).append(row)
    return found


def comparison(args: argparse.Namespace) -> dict[str, Any]:
    """Compare two models by their rows; return the report."""
    rows = [read(path) for path in (args.first, args.second)]
    found = [measures_of(each) for each in rows]
    measures = []
    for name in found[0]:
        result = compare(found[0][name], found[1].get(name, []))
        measures.append({"measure": name, **asdict(result), "verdict": result.verdict})
    return {
        "date": args.date or date.today().isoformat(),
        "twins": args.names.split(","),
        "measures": measures,
        "needle": by_key(rows, NEEDLE, "depth"),
        "loss": by_key(rows, LOSS, "first"),
        "course": [read(run / "heldout.jsonl") for run in args.runs],
        "decode": [fastest_rows(read(path)) for path in args.decode],
    }


def by_key(rows: list[list[Row]], measure: str, key: str) -> list[Row]:
    """Mean scores of a measure by length and by the value of a key."""
    sums: dict[tuple[int, float], list[float]] = {}
    for number, each in enumerate(rows):
        for row in each:
            if row["measure"] == measure:
                at = sums.setdefault((row["tokens"], row[key]), [0.0] * 4)
                at[2 * number] += row["score"]
                at[2 * number + 1] += row["count"]
    return [
        {"tokens": tokens, key: value, "scores": [a / b if b else None, c / d if d else None]}
        for (tokens, value), (a, b, c, d) in sorted(sums.items())
    ]


def lines_of(report: dict[str, Any]) -> Iterator[str]:
    """Lines of a report in Markdown."""
    first, second = report["twins"]
    yield f"| Measure | Texts | Chance | {first} | {second} | Difference (95 %) | {first} is |"
    yield "|---|---|---|---|---|---|---|"
    for row in report["measures"]:
        form = ".4f" if row["chance"] is None else ".1%"
        cells = [row["measure"], str(row["texts"])]
        cells.append("" if row["chance"] is None else f"{row['chance']:.1%}")
        cells += [f"{score:{form}}" for score in row["scores"]]
        cells.append(" ".join(f"{row[name]:+{form}}" for name in ("difference", "low", "high")))
        yield f"| {' | '.join([*cells, row['verdict']])} |"
    verdicts = [row["verdict"] for row in report["measures"]]
    yield f"\n{sum(each in LEVELS for each in verdicts)} of {len(verdicts)} ahead or level\n"
    for name, key in ((NEEDLE, "depth"), (LOSS, "first")):
        yield f"| {name}: tokens, {key} | {first} | {second} |\n|---|---|---|"
        for row in report[name]:
            scores = " | ".join("" if x is None else f"{x:.4f}" for x in row["scores"])
            yield f"| {row['tokens']:,}, {row[key]:,} | {scores} |"
        yield ""


def main() -> None:
    """Run a part."""
    args = arguments()
    if args.part == "decode" and args.dense_by in (TRITON, FUSED) and not args.graphs:
        raise SystemExit(f"--dense-by {args.dense_by} needs --graphs")
    if args.part == "report":
        report = comparison(args)
        if args.json is not None:
            args.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        sys.stdout.writelines(f"{line}\n" for line in lines_of(report))
    else:
        write({"measure": measure, "decode": decode}[args.part](args), args.out)


if __name__ == "__main__":
    main()
