"""Fixtures of the program's tests: a tiny model, separate cache folders, ways to ask."""

from __future__ import annotations

import fcntl
import http.server
import json
import os
import pty
import select
import shutil
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch
from tokenizers import models, normalizers, pre_tokenizers, trainers
from transformers import Qwen2Config, Qwen2ForCausalLM

from nsa_cli.__main__ import run as run_program
from nsa_cli.answering.ask import ask
from nsa_cli.config.options import Options
from nsa_cli.documents import read_sources
from nsa_cli.engine.engine import Engine
from nsa_cli.engine.open_document import OpenDocument
from nsa_cli.events import AnswerFinished, Event, Note
from nsa_models.tokenization.byte_level import QWEN2_PATTERN

CORPUS = [
    "The quick brown fox jumps over the lazy dog. It's the dogs' day, isn't it? We'll see.",
    "def main(argv: list[str]) -> int:\n    for index in range(10):\n\t\treturn index\n\n",
    "你好，世界。你好，朋友。人工智能的世界。",
    "1234567890 2024-01-01 3.14159 100 200 300",
    "the worker of line number wrote a report about the harbour and the weather.\n\n",
]
NSA_VARIABLES = [name for name in os.environ if name.startswith("NSA_") and name != "NSA_CACHE_DIR"]
READERS = {"ask", "find", "summarize", "batch", "chat", "eval", "train"}
DECODERS = {"ask", "batch", "chat", "eval"}
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def write_model(folder: Path, *, seed: int, context: int = 4096) -> Path:
    """Write a random Qwen2 of two layers as a Hugging Face folder."""
    library = tokenizers.Tokenizer(models.BPE())
    library.normalizer = normalizers.NFC()
    library.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(QWEN2_PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    library.train_from_iterator(CORPUS * 3, trainer)
    library.add_special_tokens(
        [tokenizers.AddedToken(token, normalized=False) for token in SPECIALS]
    )
    end = library.token_to_id("<|im_end|>")
    config = Qwen2Config(
        vocab_size=library.get_vocab_size(),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=context,
        rope_parameters={"rope_theta": 10000.0, "rope_type": "default"},
        tie_word_embeddings=False,
        eos_token_id=end,
    )
    generator = torch.random.manual_seed(seed)
    model = Qwen2ForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
    folder.mkdir(parents=True)
    model.save_pretrained(folder)
    library.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"chat_template": CHAT_TEMPLATE, "eos_token": "<|im_end|>"})
    )
    return folder


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with 4,096 tokens of context, 16,384 with YaRN."""
    return write_model(tmp_path_factory.mktemp("models") / "tiny", seed=0)


@pytest.fixture(scope="session")
def other_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model with other weights."""
    return write_model(tmp_path_factory.mktemp("models") / "tiny", seed=1)


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The test's cache folder; it does not exist yet."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("NSA_CACHE_DIR", str(folder))
    monkeypatch.setenv("NSA_OFFLINE", "1")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    for name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "COLUMNS", *NSA_VARIABLES):
        monkeypatch.delenv(name, raising=False)
    return folder


def prose(lines: int, *, seed: int = 0) -> str:
    """Distinct numbered lines of text; about 18 tokens each."""
    return "".join(
        f"The worker of line {number} wrote report {number * 7919 % 1009 + seed}.\n"
        for number in range(1, lines + 1)
    )


@dataclass
class Asker:
    """Asks in this process and records the events.

    Attributes:
        model: The model's folder.
        cache: The cache folder.
        events: Events of the last question.
    """

    model: Path
    cache: Path
    events: list[Event] = field(default_factory=list)

    def __call__(
        self,
        source: Path | str,
        question: str = "Who wrote the report?",
        *,
        remember: bool = False,
        **options: Any,
    ) -> AnswerFinished:
        """Ask; without `remember`, stored answers are removed first."""
        if not remember:
            shutil.rmtree(self.cache / "answers", ignore_errors=True)
        self.events = []
        defaults = {"model": str(self.model), "max_tokens": 6, "cache_limit_bytes": 10**9}
        how = Options(**{**defaults, **options})
        return next(ask([str(source)], [question], how, self.events.append))

    @property
    def notes(self) -> list[str]:
        """Notes of the last question."""
        return [event.text for event in self.events if isinstance(event, Note)]

    @property
    def readings(self) -> list[Path]:
        """Folders of the stored KV caches."""
        return sorted(path.parent for path in (self.cache / "readings").glob("*/manifest.json"))


@pytest.fixture
def asker(tiny_model: Path, cache_folder: Path) -> Asker:
    """An `Asker` with the tiny model."""
    return Asker(tiny_model, cache_folder)


@pytest.fixture
def text_file(tmp_path: Path) -> Path:
    """A text of about 2,500 tokens: three chunks."""
    path = tmp_path / "log.txt"
    path.write_text(prose(110))
    return path


@pytest.fixture
def opened(
    tiny_model: Path,
    text_file: Path,
    cache_folder: Path,  # noqa: ARG001
) -> OpenDocument:
    """`text_file`, prefilled by the tiny model; answers have at most four tokens."""
    options = Options(model=str(tiny_model), cache_limit_bytes=10**9, max_tokens=4)
    return Engine(options, print).open(read_sources([str(text_file)], on_note=print), "a", 300)


def substance(finished: AnswerFinished) -> tuple[Any, ...]:
    """The parts of an answer that do not depend on stored KV caches: all but times and reuse."""
    return (finished.answer, finished.citations, finished.finish_reason, finished.attention)


def _heed_interrupts() -> None:
    """Enable Ctrl-C, which a shell disables for background processes."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _own_terminal() -> None:
    _heed_interrupts()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@pytest.fixture
def start_nsa(tmp_path: Path) -> Any:
    """A function that starts `nsa` in a new process, after Python code."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str, first: str = "", **more: Any) -> subprocess.Popen[str]:
        code = (
            f"import sys\nsys.argv[0] = 'nsa'\n{first}\nfrom nsa_cli.__main__ import main\nmain()"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            stdout=more.pop("stdout", subprocess.PIPE),
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())},
            preexec_fn=_heed_interrupts,
            **more,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture(name="prose", scope="session")
def prose_fixture() -> Callable[..., str]:
    """The function `prose`."""
    return prose


@pytest.fixture(name="substance", scope="session")
def substance_fixture() -> Callable[[AnswerFinished], tuple[Any, ...]]:
    """The function `substance`."""
    return substance


@pytest.fixture
def nsa(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """A function that runs `nsa` in this process: exit code, standard output, standard error."""

    def run(*arguments: str, model: Path | None = tiny_model) -> tuple[int, str, str]:
        command = arguments[0] if arguments else ""
        named = ("--model", str(model)) if model and command in READERS else ()
        few = ("--max-tokens", "6") if named and command in DECODERS else ()
        few = () if "--max-tokens" in arguments else few
        monkeypatch.setattr(sys, "argv", ["nsa", *arguments, *named, *few])
        code = run_program()
        out, err = capsys.readouterr()
        assert "\x1b" not in out + err
        return code, out, err

    return run


@dataclass
class Terminal:
    """A program in a pseudo-terminal.

    Attributes:
        process: The program.
        screen: The master side of the terminal.
        shown: The program's output so far.
    """

    process: subprocess.Popen[bytes]
    screen: int
    shown: str = ""

    def read_until(self, words: str, seconds: float = 60) -> str:
        """Wait until the words are shown; return all output so far."""
        end = time.monotonic() + seconds
        while words not in self.shown:
            left = end - time.monotonic()
            assert left > 0, f"{words!r} did not come: {self.shown!r}"
            if select.select([self.screen], [], [], left)[0] and not self._take():
                break
        assert words in self.shown, self.shown
        return self.shown

    def read_more(self) -> None:
        """Wait for more output."""
        self._take()

    def _take(self) -> bool:
        try:
            data = os.read(self.screen, 65536)
        except OSError:  # the slave side is closed
            return False
        self.shown += data.decode(errors="replace")
        return bool(data)

    def type(self, text: str) -> None:
        """Type text; `shown` starts again after it."""
        self.shown = ""
        os.write(self.screen, text.encode())

    def end(self, seconds: float = 60) -> tuple[int, str]:
        """Wait for the program's end; return its exit code and all output."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if select.select([self.screen], [], [], 0.2)[0] and not self._take():
                break
        return self.process.wait(timeout=max(0.1, end - time.monotonic())), self.shown


@pytest.fixture
def terminal(tmp_path: Path) -> Any:
    """A function that starts `nsa` in a pseudo-terminal, with Python code run before it.

    `program` is another one to start.
    """
    started: list[Terminal] = []

    def start(
        *arguments: str,
        columns: int = 100,
        first: str = "",
        program: str = "",
        **variables: str,
    ) -> Terminal:
        mine, its = pty.openpty()
        fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        code = f"{first}\nfrom nsa_cli.__main__ import main\nmain()"
        nsa = [sys.executable, *(("-c", code) if first else ("-m", "nsa_cli"))]
        process = subprocess.Popen(
            [*([program] if program else nsa), *arguments],
            stdin=its,
            stdout=its,
            stderr=its,
            cwd=tmp_path,
            start_new_session=True,
            preexec_fn=_own_terminal,
            env={
                **os.environ,
                "TERM": "xterm-256color",
                "OMP_NUM_THREADS": str(torch.get_num_threads()),
                **variables,
            },
        )
        os.close(its)
        started.append(Terminal(process, mine))
        return started[-1]

    yield start
    for process in started:
        process.process.kill()
        process.process.wait()
        os.close(process.screen)


@pytest.fixture
def lesson_data(tmp_path: Path) -> tuple[Path, Path]:
    """Articles with questions, and a text, as arguments of `nsa train`."""
    articles = [
        {
            "title": f"Town {n}",
            "paragraphs": [
                {
                    "text": f"Paragraph {p} of town {n} says that its mayor is number {n * p}.",
                    "questions": [{"question": f"Who is {p} of {n}?", "answers": [f"{n * p}"]}],
                }
                for p in range(1, 6)
            ],
        }
        for n in range(20)
    ]
    questions, texts = tmp_path / "questions.jsonl", tmp_path / "texts.jsonl"
    questions.write_text("".join(json.dumps(article) + "\n" for article in articles))
    texts.write_text(json.dumps({"text": "The rain fell.\n\n" * 400}) + "\n")
    return questions, texts


Answer = Callable[[http.server.BaseHTTPRequestHandler], None]


@dataclass
class Site:
    """A web server.

    Attributes:
        port: Its port on 127.0.0.1.
        pages: What it does for each path.
        requests: Path and headers of each request.
    """

    port: int = 0
    pages: dict[str, Answer] = field(default_factory=dict)
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        """The URL of a path."""
        return f"http://{host}:{self.port}{path}"

    def put(self, path: str, body: bytes, *, status: int = 200, **headers: str) -> str:
        """Serve a body; `Content_Type` stands for `Content-Type`. Returns the URL."""

        def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            etag = named.get("ETag")
            if etag is not None and handler.headers.get("If-None-Match") == etag:
                handler.send_response(304)
                handler.end_headers()
                return
            handler.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **named}.items():
                handler.send_header(name, value)
            handler.end_headers()
            handler.wfile.write(body)

        self.pages[path] = answer
        return self.url(path)


@pytest.fixture
def site() -> Iterator[Site]:
    """A web server on 127.0.0.1."""
    site = Site()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.requests.append((self.path, dict(self.headers)))
            try:
                site.pages[self.path](self)
            except OSError:  # the client has closed the connection
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        site.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield site
        server.shutdown()
        thread.join()
