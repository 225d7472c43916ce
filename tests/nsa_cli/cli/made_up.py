"""Commands with made-up documents, answers and models, run before each scripted screen.

Each name of `SCREENS` has the Python code that puts the made-up parts in place, and the words of
the command line.
"""

from __future__ import annotations

PATH = "/home/ann/research/papers/2019/annual reports/final/operating-margin-report.pdf"
ANSWER = """
from nsa_cli.events import AnswerFinished, AnswerText, Note
from nsa_cli.results import Citation, MatchInContext, Stats
import nsa_cli.answering.ask, nsa_cli.answering.find
place = {"page_label": None, "line_start": 12, "line_end": 14, "score": 0.4}
quote = "The operating margin rose to 14.2 % in 2019, from 12.9 % in the year before."
long = PATH
stats = Stats(
    document_tokens=52310, reused_tokens=2310, question_tokens=20, answer_tokens=60,
    load_seconds=1.0, prefill_seconds=48.2, time_to_first_token_seconds=50.1,
    decode_tokens_per_second=12.0, peak_memory_bytes=1, cache_bytes=1, cache_bytes_touched=1,
)
def answer(named, questions, opts, emit):
    emit(Note(text="very/long/folder/notes.txt is not UTF-8; read as Windows-1252, so some "
                   "letters may be wrong"))
    text = ("The operating margin was 14.2 percent in 2019, which the report explains by:\\n\\n"
            "- higher prices of the two largest products since the second quarter, and\\n"
            "- lower costs of materials (`--cost auto|cpu|cuda` in the appendix).\\n\\n"
            "营业利润率在二〇一九年上升到百分之十四点二，因为价格较高，而且材料成本下降，另外汇率也有利。")
    for start in range(0, len(text), 7):
        emit(AnswerText(text=text[start : start + 7]))
    cited = tuple(
        Citation(source=source, page=page, quote=quote, verified=verified, **place)
        for source, page, verified in ((long, 41, True), ("notes.txt", None, False))
    )
    for _ in questions:
        yield AnswerFinished(
            answer=text, citations=cited, model="m", finish_reason="length", stats=stats
        )
def find(named, query, top, opts, emit):
    before = "In the first half of the year sales grew by 3 % while costs were flat. "
    after = " The board expects a margin of about 14 % in 2020, if prices stay as they are."
    return [
        MatchInContext(source=source, page=page, quote=quote, before=before, after=after, **place)
        for source, page in ((long, 41), ("notes.txt", None))
    ]
nsa_cli.answering.ask.ask, nsa_cli.answering.find.find = answer, find
""".replace("PATH", repr(PATH))

CACHE = """
import nsa_cli.kv_store.inventory as inventory
from pathlib import Path
entries = [
    inventory.StoredEntry(
        id=id, name=name, sources=(name,), model=model, tokens=tokens, bytes=size,
        used=1.6e9, folder=Path("/cache/readings", id),
    )
    for id, name, model, tokens, size in (
        ("1f3a9c2e", PATH, "qwen2.5-coder-0.5b", 52310, 1287000000),
        ("7c00d1b4", "notes.txt", "/home/ann/models/tuned/mine.gguf", 812, 20300000),
    )
]
inventory.stored_entries = lambda: entries
""".replace("PATH", repr(PATH))

EVAL = """
from nsa_cli.evaluation import runner, metrics, report
import nsa_cli.cli.doctor as doctor
def record(suite, right, depth):
    score = metrics.Score(exact_match=False, contains_gold=right, recall=1.0 * right, f1=0.5)
    return runner.QuestionResult(
        setting=runner.Setting(model="qwen2.5-coder-0.5b", attention="nsa", blocks="16"),
        suite=suite, length=16384, depth=depth, tokens=16000, question="Who?", gold=("a",),
        answer="a", score=score, citation_rank=1, passage_rank=2, bm25_rank=3, bm25_asked=True,
        read_seconds=1.0, answer_seconds=1.0,
    )
def examine(measure):
    report.print_report([
        record("needle", True, 0.0), record("needle", False, 1.0), record("aggregation", True, None)
    ])
    return []
doctor.examine = examine
"""
DOCTOR = """
import nsa_cli.cli.doctor as doctor
findings = [
    doctor.Finding(what="program", state="ok", found="nsa 0.1, Python 3.11.7, Linux-6.1-x86_64"),
    doctor.Finding(
        what="memory", state="warning",
        found="1.2 GB free; reading a long document needs about 3 GB",
        remedy="close other programs, or use --model smollm2-135m, which needs less of it",
    ),
]
doctor.examine = lambda measure: findings
"""
MODELS = """
import nsa_cli.cli.models as models, nsa_models.hub.aliases as aliases
from pathlib import Path
models._paths = lambda entry: [Path("/x")] if entry.name == "smollm2-135m" else []
models._others = lambda: []
aliases.aliases = lambda: {"mine": Path("/home/ann/models/of/some/longer/path/mine-q8_0.gguf")}
"""

SUMMARY = """
from nsa_cli.events import Note
from nsa_cli.results import Citation, DocumentSummary, Statement
from nsa_cli.documents import Location
import nsa_cli.answering.summarize as summarize
place = {"page_label": None, "line_start": 12, "line_end": 14}
def said(source, text, section=None, page=41):
    cited = Citation(source=source, page=page, quote=text, score=0.4, verified=True, **place)
    where = None if section is None else Location(source=source, page=page, **place)
    return Statement(section=section, place=where, text=text, citations=(cited,), verbatim=True)
rose = "The operating margin rose to 14.2 % in 2019, from 12.9 % in the year before."
must = "The board must approve any investment above 1,200,000 euros before 31 March 2020."
costs = "Costs of materials fell by 3 %, mostly those of steel."
def made(named, opts, emit, request):
    emit(Note(text="summarized before; --no-store summarizes again"))
    documents = [
        DocumentSummary(
            source=source, document_tokens=52310, reused_tokens=52310,
            overview=(said(source, rose), said(source, must)),
            statements=(
                said(source, rose, "1.2 Results of the year and of the four quarters before it"),
                said(source, costs, "1.2 Results of the year and of the four quarters before it"),
                said(source, must, "3 Investments"),
            ),
        )
        for source in (PATH, "notes.txt")[: len(named)]
    ]
    overview = documents[0].overview
    return summarize.Summary(
        name=PATH, overview=overview, documents=tuple(documents), model="qwen2.5-coder-0.5b"
    )
summarize.summarize = made
""".replace("PATH", repr(PATH))

BATCH = """
from nsa_cli.events import BatchProgress, Note, Progress
import nsa_cli.batch.run as run, nsa_cli.batch.dry_run as dry_run
from nsa_cli.results import Estimate
def batch(sources, work, opts, rows, emit, **_):
    emit(BatchProgress(done=0, total=12, name="a.pdf"))
    emit(Note(text=PATH + ": page 7 is a scan without text; --ocr eng reads it"))
    emit(BatchProgress(done=12, total=12, name=""))
    failures = [
        run.Failure(code="needs_password", document=PATH, rows=2),
        run.Failure(code="empty", document="notes.txt", rows=1),
    ]
    return run.Outcome(
        documents=12, done_before=4, failed=2, rows_before=8, rows=1713, failures=failures,
        seconds=512.0,
    )
def survey(*_):
    size = Estimate(
        tokens=52310, reused_tokens=2310, seconds=48.0, disk_bytes=1287000000,
        disk_free_bytes=91 * 10**9, memory_bytes=3 * 10**9, memory_limit_bytes=9 * 10**9,
        context_tokens=131072, answer_seconds=9.0,
    )
    wrong = {"code": "needs_password", "hint": "give --password",
             "message": PATH + " is encrypted and needs a password"}
    yield dry_run.DocumentSurvey(path="a.pdf", rows=2, estimate=size)
    yield dry_run.DocumentSurvey(path="minutes of the meeting in May.docx", rows=0)
    yield dry_run.DocumentSurvey(path=PATH, rows=2, error=wrong)
run.run_batch, dry_run.survey_batch = batch, survey
""".replace("PATH", repr(PATH))

SERVE = """
import nsa_cli.serve.server as server
def serve(listening, opts, emit, ready):
    ready("http://127.0.0.1:8765", "qwen2.5-coder-0.5b")
server.serve = serve
"""

SHARDS = """
from collections import Counter
from nsa_models.training.shards import ShardIndex
import nsa_cli.training.text_shards as text_shards
def shards(plan, note):
    note("training a tokenizer on the first 200 MB of text")
    index = ShardIndex(
        tokenizer="t", vocab_size=16384, end_id=0, dtype="uint16",
        documents={"train": 41210, "heldout": 417},
        tokens={"train": 102400512, "heldout": 1034112}, longest={"train": 91022, "heldout": 8000},
    )
    skipped = Counter({"binary file": 12, "empty document": 1})
    return text_shards.ShardReport(index=index, text_bytes=430000000, skipped=skipped)
text_shards.make_shards = shards
"""

PRETRAIN = """
import nsa_cli.training.pretrain as pretrain, nsa_models.training.shards as shards
from nsa_cli.training.pretrain_log import heldout_writer, log_writer
from nsa_models.training.pretrain import PretrainProgress
from types import SimpleNamespace as Made
index = Made(
    vocab_size=16384, end_id=0, tokens={"train": 102400512}, longest={"train": 1022},
    documents={"train": 41210, "heldout": 0},
)
shards.open_shards = lambda folders: Made(index=index)
def trained(plan, found):
    plan.out.mkdir(exist_ok=True)
    progress = PretrainProgress(step=500, finished=True)
    training = Made(progress=progress, parameters=61.3e6)
    pretrain._announce(plan, found, training, Made(type="cuda"))
    row = {"step": 1500, "tokens": 98304000, "loss": 4.7213, "tokens_per_second": 412345.0}
    log_writer(plan.out, 12000)([{**row, "share_of_peak": 0.123, "skipped": 2}])
    far = {"from": 2048, "to": 4096, "loss": 4.5}
    heldout_writer(plan.out)(
        {"step": 1500, "loss": 4.6, "heldout_tokens": 1034112, "by_position": [far]}
    )
    return progress
pretrain.pretrain = trained
"""

TRAIN = """
from pathlib import Path
import nsa_cli.training.examples as examples, nsa_cli.training.train as train
import nsa_models.hub.resolve as resolve
from nsa_cli.training.log import log_writer
from nsa_models.training.stage import TrainingProgress
examples.load_training_data = lambda *_: None
resolve.resolve_model = lambda *_, **__: None
def trained(where, data, plan, note):
    losses = {"loss answer": 1.2345, "loss attention": 0.4321}
    progress = TrainingProgress(
        step=120, tokens=491520, seconds=312.0, left_out=3, losses=losses, history=[losses]
    )
    log_writer(Path("log.jsonl"), "answers", note)(progress)
train.train = trained
"""

EVAL_DOCUMENTS = """
from nsa_cli.evaluation.document_suite import report
import nsa_cli.cli.doctor as doctor
def share(value, of):
    return {"value": value, "low": value / 2, "high": min(1.0, value * 1.5), "of": of}
names = ("right", "answerable_right", "answerable_declined", "unanswerable_declined",
         "cited_first", "cited_among_3", "found_first", "found_among_3", "right_when_verified")
def system(way, value):
    kinds = ("lookup", "table", "several places", "unanswerable")
    own = {name: share(value, 34) for name in names}
    return {
        "setting": "qwen2.5-coder-1.5b, adapter trained/answers, 16 blocks", "way": way,
        "questions": 138, **own, "f1": 0.4, "kinds": dict.fromkeys(report.KINDS, own),
        "document_kinds": dict.fromkeys(("annual report", "court decision"), own),
        "read_seconds": 212.3, "answer_seconds": 7.2, "read_tokens": 41234.0, "answer_tokens": 31.0,
    }
def examine(measure):
    systems = [system("nsa", 0.42), system("chunks", 0.31), system("pages-ranked", 0.5)]
    sides = [{"setting": each["setting"], "way": each["way"]} for each in systems]
    pair = {
        "first": sides[0], "second": sides[1], "questions": 138, "difference": 0.11, "low": 0.02,
        "high": 0.2, "better": 31, "worse": 16, "p": 0.03,
    }
    report.print_report({
        "suite": "real documents", "questions": 138, "questions_of_the_suite": 143, "documents": 34,
        "answers": 414, "digest": "3f" * 32, "systems": systems, "pairs": [pair],
    })
    return []
doctor.examine = examine
"""

EVAL_SUMMARIES = """
from nsa_cli.evaluation.summary_suite import report
import nsa_cli.cli.doctor as doctor
def share(value):
    return {"value": value, "low": value / 2, "high": min(1.0, value * 1.5), "of": 34}
setting = "qwen2.5-coder-1.5b, 240 words, prompts 1f3a9c2e"
def system(way, value):
    own = {name: share(value) for name in report._SHARES}
    return {"setting": setting, "way": way, "meetings": 31, "words": 231.4, "rouge_lsum": 0.251,
            "seconds": 1212.3, "read_tokens": 9123.0, **own}
def examine(measure):
    ways = (("nsa", 0.42), (report.OVERVIEW, 0.2), ("beginning", 0.31), ("map-reduce", 0.3))
    pair = {"setting": setting, "first": "nsa", "second": "map-reduce", "meetings": 31,
            "coverage_ratio": 1.41, "low": 1.2, "high": 1.66}
    report.print_report({"systems": [system(*each) for each in ways], "pairs": [pair]})
    return []
doctor.examine = examine
"""

CACHE_SIZE = """
import nsa_cli.kv_store.inventory as inventory
sizes = {"readings": 12.3e9, "documents": 4e6, "answers": 1e5, "web": 0, "models": 1.8e9,
         "prepared": 0.7e9}
inventory.disk_bytes = lambda folder: int(sizes[folder.name])
import nsa_cli.documents.urls.kept
"""

SCREENS: dict[str, tuple[str, tuple[str, ...]]] = {
    "ask": (ANSWER, ("ask", "a.pdf", "What was the operating margin in 2019?")),
    "ask-two": (
        ANSWER,
        ("ask", "a.pdf", "-a", "What was the operating margin, and why did it rise?", "-a", "Who?"),
    ),
    "find": (ANSWER, ("find", "a.pdf", "operating margin")),
    "summarize": (SUMMARY, ("summarize", "a.pdf")),
    "summarize-two": (SUMMARY, ("summarize", "a.pdf", "notes.txt", "--outline")),
    "batch": (BATCH, ("batch", "papers/", "-a", "Who?", "--out", "rows.jsonl")),
    "batch-dry-run": (BATCH, ("batch", "papers/", "-a", "Who?", "--dry-run")),
    "serve": (SERVE, ("serve",)),
    "shards": (SHARDS, ("shards", "tokens", "texts")),
    "pretrain": (
        PRETRAIN,
        ("pretrain", "out", "--shards", "tokens", "--size", "60m", "--tokens", "100000000"),
    ),
    "train": (TRAIN, ("train", "out", "--questions", "q.jsonl", "--texts", "t.jsonl")),
    "eval": (EVAL, ("doctor",)),
    "eval-documents": (EVAL_DOCUMENTS, ("doctor",)),
    "eval-summaries": (EVAL_SUMMARIES, ("doctor",)),
    "cache-list": (CACHE, ("cache", "list")),
    "cache-show": (CACHE, ("cache", "show", "1f3a")),
    "cache-size": (CACHE_SIZE, ("cache", "size")),
    "cache-rm": (CACHE, ("cache", "rm")),
    "cache-forget": (CACHE, ("cache", "rm", "notes.txt", "--force")),
    "cache-prune": ("", ("cache", "prune", "--older-than", "30d")),
    "doctor": (DOCTOR, ("doctor",)),
    "models-list": (MODELS, ("models", "list")),
    "models-show": (MODELS, ("models", "show", "qwen2.5-coder-0.5b")),
    "models-unknown": (MODELS, ("models", "rm", "qwen2.5-coder-7b")),
    "config-list": ("", ("config", "list", "--all")),
    "config-set": ("", ("config", "set", "max_tokens", "many")),
    "config-get": ("", ("config", "get", "temperature")),
    "error": ("", ("ask", "Who signed the contract of 2019, and when did they sign it?")),
    "help-ask": ("", ("ask", "--help")),
}
