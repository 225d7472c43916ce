"""Computed answers in `nsa ask`, batch, chat and the server: instant, and never from a cache."""

from __future__ import annotations

import io
import json
import queue
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from nsa_cli.config.options import Options
from nsa_cli.documents.sources import Source
from nsa_cli.events import AnswerFinished, Event
from nsa_cli.serve.documents import ParsedDocuments
from nsa_cli.serve.formats import Choice, Reply
from nsa_cli.serve.jobs import Asked, Job
from nsa_cli.serve.scheduler import Scheduler
from nsa_cli.tables import answer

Run = Callable[..., tuple[int, str, str]]
ROWS = "Order,Region,Amount\n" + "".join(
    f"{n},{('West', 'East')[n % 2]},{n * 10}.50\n" for n in range(1, 9)
)
QUESTION = "What is the total amount in the West?"
ANSWER = "202.00 (sum of Amount over 4 rows where Region is West in {})"


@pytest.fixture
def orders(tmp_path: Path) -> Path:
    path = tmp_path / "orders.csv"
    path.write_text(ROWS)
    return path


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model is never loaded, and nothing is tokenized."""
    monkeypatch.setattr("nsa_cli.engine.engine.Engine.load", None)
    monkeypatch.setattr("nsa_cli.engine.engine.Engine.prompts", None)


@pytest.mark.usefixtures("no_model")
def test_an_answer_is_computed_without_the_model(nsa: Run, orders: Path) -> None:
    code, out, err = nsa("ask", str(orders), QUESTION)
    assert code == 0
    first, _, cited = out.partition("\n\n")
    assert first == ANSWER.format(orders)
    assert cited.splitlines()[0] == (
        f"[1] {orders}, line 3, Amount: “Order: 2 | Region: West | Amount: 20.50”"
    )
    assert len(cited.splitlines()) == 2
    assert "computed in" in err
    assert "without the model" in err


def test_torch_is_not_imported(orders: Path, tiny_model: Path) -> None:
    code = (
        "import sys; from nsa_cli.answering.ask import ask; from nsa_cli.config.options import "
        f"Options; [a] = ask([{str(orders)!r}], [{QUESTION!r}], Options(model={str(tiny_model)!r}),"
        " lambda e: None); assert a.computation.value == 202; "
        "assert not {'torch', 'transformers', 'pandas', 'tokenizers'} & sys.modules.keys()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.usefixtures("no_model")
def test_a_sheet_is_cited_by_its_cell(nsa: Run, tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    book.active.title = "Notes"
    book.active.append(["Read the second sheet."])
    sheet = book.create_sheet("Orders")
    sheet.append([])
    for line in ROWS.splitlines():
        sheet.append(
            [int(c) if c.isdigit() else float(c) if "." in c else c for c in line.split(",")]
        )
    path = tmp_path / "book.xlsx"
    book.save(path)
    code, out, _ = nsa("ask", str(path), "Which order has the highest amount?")
    assert code == 0
    assert out.startswith(
        f"Order 8: 80.5 (max of Amount over 8 rows in {path}, sheet 2 (Orders))\n"
    )
    assert f"[1] {path}, sheet 2 (Orders), row 10, cell C10 (Amount): " in out


@pytest.mark.usefixtures("no_model")
def test_json_shows_the_computation(nsa: Run, orders: Path) -> None:
    code, out, _ = nsa("ask", str(orders), QUESTION, "--json")
    assert code == 0
    found = json.loads(out)
    assert found["computation"] == {
        "table": str(orders),
        "operation": "sum",
        "description": "sum of Amount over 4 rows where Region is West",
        "value": 202,
        "rows": 4,
        "refused": None,
        "unit": "",
    }
    assert [(each["line_start"], each["column"], each["cell"]) for each in found["citations"]] == [
        (3, "Amount", None),
        (9, "Amount", None),
    ]


@pytest.mark.usefixtures("no_model")
def test_a_refusal_is_an_answer(nsa: Run, orders: Path) -> None:
    code, out, _ = nsa("ask", str(orders), "What is the total profit?", "--json")
    assert code == 0
    found = json.loads(out)
    assert found["answer"].startswith("Not computed: there is no column or value for “profit”")
    assert found["computation"]["value"] is None
    assert "profit" in found["computation"]["refused"]


def test_other_questions_go_to_the_model_as_before(nsa: Run, orders: Path) -> None:
    code, out, err = nsa("ask", str(orders), "-a", QUESTION, "-a", "Why so?", "--json")
    assert code == 0, err
    computed, generated = json.loads(out)["answers"]
    assert computed["computation"]["value"] == 202
    assert generated["computation"] is None
    assert generated["stats"]["document_tokens"] > 0


def test_no_compute_asks_the_model(nsa: Run, orders: Path) -> None:
    code, out, _ = nsa("ask", str(orders), QUESTION, "--no-compute", "--json")
    assert code == 0
    assert json.loads(out)["computation"] is None
    code, out, _ = nsa("ask", str(orders), QUESTION, "--json")
    assert json.loads(out)["computation"]["value"] == 202


def test_a_changed_rule_asks_anew(nsa: Run, orders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(2):
        code, _, err = nsa("ask", str(orders), "Why so?")
    assert code == 0
    assert "answered before" in err
    monkeypatch.setattr("nsa_cli.engine.compute.RULES", answer.RULES + 1)
    assert "answered before" not in nsa("ask", str(orders), "Why so?")[2]


def test_rules_change_no_answers_about_texts(
    nsa: Run, text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nsa("ask", str(text_file), "Who?")
    monkeypatch.setattr("nsa_cli.engine.compute.RULES", answer.RULES + 1)
    assert "answered before" in nsa("ask", str(text_file), "Who?")[2]


def test_a_computed_answer_is_not_kept(nsa: Run, orders: Path, cache_folder: Path) -> None:
    nsa("ask", str(orders), QUESTION)
    assert not list(cache_folder.glob("answers/*"))


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_batch_rows_are_computed(nsa: Run, orders: Path, tmp_path: Path, kind: str) -> None:
    out = tmp_path / f"rows.{kind}"
    code, _, err = nsa("batch", str(orders), "-a", QUESTION, "--out", str(out))
    assert code == 0, err
    assert ANSWER.format(orders) in out.read_text()
    if kind == "jsonl":
        assert json.loads(out.read_text())["computation"]["value"] == 202
    before = out.read_bytes()
    code, _, err = nsa("batch", str(orders), "-a", QUESTION, "--out", str(out), "--resume")
    assert code == 0, err
    assert out.read_bytes() == before


def test_chat_computes_and_cites(
    nsa: Run, orders: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    saved = tmp_path / "talk.json"
    lines = [QUESTION, "/cite 2", "Why?", f"/save {saved}"]
    monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
    code, out, err = nsa("chat", str(orders))
    assert code == 0, err
    assert ANSWER.format(orders) in out
    assert f"{orders}, line 9, Amount:\n  Order: 6 | Region: West" in out
    first, second = json.loads(saved.read_text())["turns"]
    assert first["computation"]["value"] == 202
    assert second["computation"] is None


def test_the_server_computes(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nsa_cli.engine.engine.Engine.load", None)
    options = Options(model=str(tiny_model), cache_limit_bytes=10**8)
    scheduler = Scheduler(options, [].append, ParsedDocuments())
    events: queue.Queue[Event] = queue.Queue()
    turns = (("How many orders are there?", "8"),)
    job = Job(
        sources=[Source(name="orders.csv", data=ROWS.encode(), named=True)],
        name="orders.csv",
        asked=Asked(question=QUESTION, turns=turns),
        deliver=events.put,
    )
    scheduler.start()
    try:
        scheduler.submit(job)
        while not isinstance(found := events.get(timeout=60), AnswerFinished):
            pass
    finally:
        scheduler.close()
        scheduler.join(60)
    assert found.answer == ANSWER.format("orders.csv")
    message: dict[str, Any] = Reply(model="m").complete([Choice(finished=found)])["choices"][0][
        "message"
    ]
    assert message["computation"]["value"] == 202
    assert message["citations"][0]["column"] == "Amount"
