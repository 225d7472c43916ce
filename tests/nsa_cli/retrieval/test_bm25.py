"""Scores of texts by the words of a question."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from nsa_cli.retrieval.bm25 import Bm25


def test_bm25_prefers_rare_words() -> None:
    index = Bm25(["the gate opens", "the watchword for gate W811 is lynx", "a gate", "", "other"])
    scores = index.scores("What is the watchword for gate W811?").tolist()
    assert len(scores) == 5
    assert max(scores) == scores[1] > scores[0] > 0
    assert scores[3] == scores[4] == 0
    assert index.scores("the of").tolist() == [0.0] * 5
    assert index.scores("unheard").tolist() == [0.0] * 5


def test_text_without_spaces_is_matched_by_character_pairs() -> None:
    index = Bm25(["本合同自双方签字之日起生效", "违约金为合同总额的百分之五", "The penalty is 5%"])
    assert index.scores("违约金是多少?").argmax() == 1
    assert index.scores("合同何时生效?").argmax() == 0
    assert index.scores("What is the penalty?").argmax() == 2
    assert Bm25(["東京タワーは赤い", "雪が白い"]).scores("タワーの色は?").argmax() == 0
    assert Bm25(["ไม่มีการคืนเงิน", "เปิดทุกวัน"]).scores("คืนเงินได้ไหม").argmax() == 0


def test_texts_without_a_word() -> None:
    assert Bm25(["", "…", "--"]).scores("What?").tolist() == [0.0] * 3


def test_jax_is_not_imported(tmp_path: Path) -> None:
    """bm25s imports jax if installed, which takes most of a GPU's memory."""
    (tmp_path / "jax").mkdir()
    (tmp_path / "jax" / "__init__.py").write_text("print('JAX')\n")
    (tmp_path / "jax" / "lax.py").write_text("def top_k(*_): ...\n")
    program = (
        "from nsa_cli.retrieval.bm25 import Bm25\n"
        "print(Bm25(['a whale', 'a ship']).scores('ship').argmax())\n"
        "import jax"
    )
    run = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.split() == ["tensor(1)", "JAX"]
