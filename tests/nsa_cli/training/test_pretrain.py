"""`nsa pretrain` from text files to a model that `nsa ask` and transformers load."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import nsa_models.transformers_model  # noqa: F401
from nsa_cli.training.pretrain_log import HELDOUT, LOG, keep_steps, rows_of, save_plot
from nsa_models.errors import DataError
from nsa_models.training.shards import open_shards

Run = Callable[..., tuple[int, str, str]]
CONFIG = """
[model]
size = "toy"
compress_block = 16
compress_stride = 8
select_block = 16
select_count = 3
window = 32

[training]
context = 512
batch_tokens = 512
heldout_tokens = 1000
log_steps = 2
save_steps = 2
"""
TOKENS = 512 * 6


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "texts.jsonl"
    lines = ["".join(f"{n}.{k} The harbour of {k} is open. " for k in range(20)) for n in range(40)]
    path.write_text("".join(json.dumps({"text": line}) + "\n" for line in lines))
    return path


@pytest.fixture
def made(nsa: Run, corpus: Path, tmp_path: Path) -> Path:
    code, _, err = nsa(
        *("shards", str(tmp_path / "shards"), str(corpus), "--vocabulary", "400"),
        *("--held-out", "0.2"),
    )
    assert code == 0, err
    (tmp_path / "a.toml").write_text(CONFIG)
    return tmp_path


@pytest.fixture
def train(nsa: Run, made: Path) -> Callable[..., tuple[int, str, str]]:
    def run(out: str, *more: str, tokens: int = TOKENS) -> tuple[int, str, str]:
        return nsa(
            *("pretrain", str(made / out), "--shards", str(made / "shards"), "--device", "cpu"),
            *("--config", str(made / "a.toml"), "--tokens", str(tokens), *more),
        )

    return run


def test_twins_train_load_and_are_plotted(nsa: Run, train: Run, made: Path) -> None:
    code, output, err = train("native")
    assert code == 0, err
    assert "native: trained after step 6" in output
    assert "nsa attention, 0.1 M parameters in products, context 512, on cpu" in err
    assert "step 6 of 6, 3,072 tokens, loss" in err
    plot = made / "p.png"
    more = ("--attention", "dense", "--plot", str(plot), "--beside", str(made / "native"))
    code, _, err = train("dense", *more)
    assert code == 0, err
    assert plot.read_bytes().startswith(b"\x89PNG")
    for name in ("native", "dense"):
        rows, heldout = rows_of(made / name / LOG), rows_of(made / name / HELDOUT)
        assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
        assert [row["step"] for row in heldout] == [6]
        model = AutoModelForCausalLM.from_pretrained(made / name)
        tokenizer = AutoTokenizer.from_pretrained(made / name)
        ids = tokenizer("The harbour of 3 is", return_tensors="pt")["input_ids"]
        assert model.generate(ids, max_new_tokens=2, do_sample=False).shape[1] > ids.shape[1]
        text = made / "a.txt"
        text.write_text("The harbour of 7 is open. " * 9)
        asked = ("ask", str(text), "Is it open?", "--max-tokens", "3", "--json")
        code, answer, err = nsa(*asked, model=str(made / name))
        assert code == 0, err
        combine = json.loads(answer)["attention"]["answering"]["combine"]
        assert combine == ("gated" if name == "native" else "union")


def test_a_quiet_run_writes_its_log_and_result_alone(
    nsa: Run, train: Run, made: Path, corpus: Path
) -> None:
    code, output, err = train("silent", "--quiet")
    assert (code, err) == (0, "")
    assert "silent: trained after step 6" in output
    assert [row["step"] for row in rows_of(made / "silent" / LOG)] == [1, 2, 3, 4, 5, 6]
    code, output, err = nsa("shards", str(made / "more"), str(corpus), "--vocabulary", "300", "-q")
    assert (code, err) == (0, "")
    assert "tokens in" in output


def test_a_limited_run_continues_where_it_was_saved(train: Run, made: Path) -> None:
    code, _, err = train("whole")
    assert code == 0, err
    code, output, err = train("parts", "--minutes", "0.000001")
    assert code == 0, err
    assert "parts: saved, run again to continue after step 0" in output
    # The logs of steps that a killed process did after its last save are made again.
    with (made / "parts" / LOG).open("a") as file:
        file.write(json.dumps({"step": 1, "loss": 99.0}) + '\n{"step": 2, "lo')
    code, output, err = train("parts")
    assert code == 0, err
    assert "parts: trained after step 6" in output

    def losses(name: str) -> list[tuple[float, float]]:
        return [(row["loss"], row["norm"]) for row in rows_of(made / name / LOG)]

    assert losses("parts") == losses("whole")
    one, other = (
        torch.load(made / name / "checkpoint.pt", weights_only=True)["model"]
        for name in ("parts", "whole")
    )
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())
    code, output, err = train("parts")
    assert code == 0, err
    assert "continuing after step 6" in err
    assert losses("parts") == losses("whole")
    assert rows_of(made / "parts" / HELDOUT) == rows_of(made / "whole" / HELDOUT)


def test_the_last_steps_read_other_shards(nsa: Run, train: Run, made: Path) -> None:
    zebras = made / "zebras.txt"
    zebras.write_text("Zebras graze quietly; some xylophones jingle. " * 90)
    shards = ("shards", str(made / "zebras"), str(zebras), "--tokenizer", str(made / "shards"))
    code, _, err = nsa(*shards, "--held-out", "0")
    assert code == 0, err
    assert train("plain")[0] == 0
    more = ("--last-shards", str(made / "zebras"))
    (made / "a.toml").write_text(f"{CONFIG}last = 0.5\n")
    code, _, err = train("mixed", *more)
    assert code == 0, err
    assert "from step 4 on" in err
    plain, mixed = (
        [row["loss"] for row in rows_of(made / name / LOG)] for name in ("plain", "mixed")
    )
    assert [a == b for a, b in zip(plain, mixed, strict=True)] == [True] * 3 + [False] * 3
    code, _, err = train("mixed")
    assert (code, "mixed was started with other last_shards. Repeat" in err) == (2, True)
    code, _, err = nsa(
        *("pretrain", str(made / "timed"), "--shards", str(made / "shards"), "--device", "cpu"),
        *("--config", str(made / "a.toml"), "--minutes", "1", *more),
    )
    assert (code, "the last shards need a budget of tokens" in err) == (2, True)
    code, _, err = nsa("shards", str(made / "own"), str(zebras), "--vocabulary", "300")
    assert code == 0, err
    code, _, err = train("other", "--last-shards", str(made / "own"))
    assert (code, "own was made with another tokenizer than" in err) == (2, True)


def test_whole_rows_are_counted_and_trained(train: Run, made: Path) -> None:
    (made / "a.toml").write_text(f"{CONFIG}whole_rows = true\n")
    code, _, err = train("whole", "--context", "128")
    assert (code, "batch_tokens" in err) == (0, False), err
    lengths = open_shards([made / "shards"]).train.lengths
    assert f"make {int((lengths // 128).sum()):,} rows" in err
    assert len(rows_of(made / "whole" / LOG)) == 6
    (made / "a.toml").write_text(CONFIG)
    code, _, err = train("whole", "--context", "128")
    assert (code, "started with other whole_rows: True before, False now" in err) == (2, True)


def test_a_longer_context_starts_from_a_trained_model(nsa: Run, train: Run, made: Path) -> None:
    assert train("short")[0] == 0
    common = (
        *("pretrain", str(made / "long"), "--shards", str(made / "shards"), "--device", "cpu"),
        *("--start-from", str(made / "short"), "--tokens", "512"),
    )
    (made / "b.json").write_text(json.dumps({"training": {"batch_tokens": 1024, "rate": 1e-9}}))
    code, _, err = nsa(*common, "--config", str(made / "b.json"), "--context", "1024")
    assert code == 0, err
    first, second = (
        json.loads((made / name / "config.json").read_text()) for name in ("short", "long")
    )
    assert (first["max_position_embeddings"], second["max_position_embeddings"]) == (512, 1024)
    assert first["window"] == second["window"] == 32
    last, begun = (
        torch.load(made / name / "checkpoint.pt", weights_only=True)["model"]
        for name in ("short", "long")
    )
    for name, tensor in last.items():
        torch.testing.assert_close(begun[name], tensor, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (("--context", "100000000"), 2, "batch_tokens is 512; it must be a multiple of 100000000"),
        (("--attention", "linear"), 2, "invalid value for --attention: 'linear'"),
        (("--size", "huge"), 2, "no size 'huge'"),
        (("--config", "missing.toml"), 3, "cannot read missing.toml"),
        (("--shards", "nowhere"), 3, "nowhere has no token shards: it has no shards.json"),
        (("--plot", "nowhere/p.png"), 2, "folder nowhere does not exist"),
    ],
)
def test_a_bad_argument_is_one_line(
    train: Run, more: tuple[str, ...], code: int, message: str
) -> None:
    found, output, err = train("out", *more)
    assert (found, output) == (code, "")
    assert message in err
    assert len(err.splitlines()) == 1


def test_bad_inputs_are_one_line(nsa: Run, train: Run, made: Path, corpus: Path) -> None:
    def refused(result: tuple[int, str, str], code: int, message: str) -> None:
        assert result[0] == code
        assert message in result[2]
        assert len(result[2].splitlines()) == 1, result[2]

    base = ("pretrain", str(made / "x"), "--shards", str(made / "shards"))
    refused(nsa(*base), 2, "the model has no shape")
    refused(nsa(*base, "--size", "toy"), 2, "the training has no budget")
    longer = json.dumps({"training": {"context": 10**6, "batch_tokens": 10**6}})
    (made / "long.json").write_text(longer)
    too_long = ("--size", "toy", "--tokens", "9", "--config", str(made / "long.json"))
    refused(nsa(*base, *too_long, "--device", "cpu"), 3, "a row has a context of 1,000,000")
    assert not (made / "x").exists()

    assert train("out")[0] == 0
    refused(train("out", "--attention", "dense"), 2, "out was started with other attention: nsa")
    refused(train("out", "--seed", "3"), 2, "out was started with other seed: 0 before, 3 now")
    refused(train("out", tokens=512), 2, "out was started with other tokens: 3072 before, 512 now")
    other = made / "other.txt"
    other.write_text("Zebras graze quietly; some xylophones jingle. " * 50)
    code, _, err = nsa(
        *("shards", str(made / "others"), str(corpus), str(other)), "--vocabulary", "300"
    )
    assert code == 0, err
    others = ("--shards", str(made / "others"))
    refused(train("new", *others), 2, "others was made with another tokenizer than")
    alone: tuple[Any, ...] = (
        *("pretrain", str(made / "out"), *others, "--device", "cpu"),
        *("--config", str(made / "a.toml"), "--tokens", str(TOKENS)),
    )
    message = "the shards were made with another tokenizer than the model in"
    refused(nsa(*alone), 2, message)
    start = ("pretrain", str(made / "new"), *others, "--start-from", str(made / "out"))
    refused(nsa(*start, "--tokens", "9"), 2, message)
    (made / "out" / "pretrain.json").write_text("{")
    refused(train("out"), 3, "cannot read")
    (made / "out" / "pretrain.json").unlink()
    refused(train("out"), 2, "out has a model that this command did not train")


def test_logs_are_cut_at_the_last_save(tmp_path: Path) -> None:
    (tmp_path / LOG).write_text('{"step": 1}\n{"step": 2}\n{"st')
    keep_steps(tmp_path, 1)
    assert (tmp_path / LOG).read_text() == '{"step": 1}\n'
    assert (tmp_path / HELDOUT).read_text() == ""


def test_runs_without_held_out_losses_are_plotted(tmp_path: Path) -> None:
    (tmp_path / LOG).write_text('{"step": 1, "tokens": 5, "loss": 2.0}\n')
    save_plot([tmp_path], tmp_path / "p.png")
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(DataError, match=r"nowhere has no log\.jsonl with steps"):
        save_plot([tmp_path, tmp_path / "nowhere"], tmp_path / "p.png")
