"""`nsa ask` and `nsa find` give the same through a server's socket as by themselves."""

from __future__ import annotations

import json
import queue
import re
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import nsa_cli.kv_store.prefill
from nsa_cli.answering.ask import ask
from nsa_cli.config.options import Options
from nsa_cli.documents.sources import Source
from nsa_cli.engine import elsewhere
from nsa_cli.events import LOADING, AnswerFinished, AnswerText, Event, Progress, Stage
from nsa_cli.serve import warm as serving
from nsa_cli.serve.jobs import Asked, Failed, Job, Work
from nsa_cli.warm.protocol import GREETING, Found, message
from nsa_models.errors import NsaError

Run = Callable[..., tuple[int, str, str]]
TIMES = ("load_seconds", "prefill_seconds", "time_to_first_token_seconds")
CHANGING = (*TIMES, "decode_tokens_per_second", "peak_memory_bytes")


class Unable:
    """Stands for the work of the client itself."""

    def __init__(self, *_: Any) -> None:
        pass

    def steps(self, *_: Any) -> Any:
        raise AssertionError("the client worked by itself")


@pytest.fixture
def forbid(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """A function after which a client cannot work by itself."""

    def forbidden() -> None:
        monkeypatch.setattr(elsewhere, "Asking", Unable)
        monkeypatch.setattr(elsewhere, "find_steps", Unable)

    return forbidden


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of the questions that a client answered by itself."""
    real, numbers = elsewhere.Asking.steps, list[int]()

    class Counted(elsewhere.Asking):
        def steps(self, number: int) -> Any:
            numbers.append(number)
            return real(self, number)

    monkeypatch.setattr(elsewhere, "Asking", Counted)
    return numbers


@pytest.fixture
def after_first_chunk(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], list[int]]:
    """A function that calls another after the first chunk; prefilled tokens after each chunk."""

    def install(act: Callable[[], None]) -> list[int]:
        real, seen = nsa_cli.kv_store.prefill.prefill, list[int]()

        def spied(*arguments: Any, **more: Any) -> Iterator[int]:
            for done in real(*arguments, **more):
                seen.append(done)
                if len(seen) == 1:
                    act()
                yield done

        monkeypatch.setattr(nsa_cli.kv_store.prefill, "prefill", spied)
        return seen

    return install


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until a condition of another thread holds."""
    for _ in range(6000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it did not happen within a minute")


def forget(cache: Path) -> None:
    """Remove what is stored of documents and answers."""
    for name in ("readings", "answers", "documents"):
        shutil.rmtree(cache / name, ignore_errors=True)


def unchanging(text: str) -> Any:
    """JSON output without times; or text without seconds."""
    try:
        found = json.loads(text)
    except ValueError:
        return re.sub(r"\d+\.\d+(?:, \d+\.\d+)* s", "T s", text)

    def without(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: without(each) for name, each in value.items() if name not in CHANGING}
        return [without(each) for each in value] if isinstance(value, list) else value

    return without(found)


COMMANDS = {
    "text": ("ask", "FILE", "Who wrote report 17?"),
    "json": ("ask", "FILE", "Who wrote report 17?", "--json"),
    "several": ("ask", "FILE", "-a", "Who?", "-a", "When was it?"),
    "several-json": ("ask", "FILE", "-a", "Who?", "-a", "When was it?", "--json"),
    "no-store": ("ask", "FILE", "Who?", "--no-store", "--json"),
    "sampled": ("ask", "FILE", "Who?", "--temperature", "2", "--seed", "5", "--max-tokens", "9"),
    "system": ("ask", "FILE", "Who?", "--system", "Be brief.", "--json"),
    "find": ("find", "FILE", "worker of line 44"),
    "find-json": ("find", "FILE", "worker of line 44", "--json", "--top", "3"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_the_output_is_the_same(
    name: str,
    nsa: Run,
    process: Any,
    cache_folder: Path,
    text_file: Path,
    forbid: Callable[[], None],
) -> None:
    del process
    command = [str(text_file) if word == "FILE" else word for word in COMMANDS[name]]
    here = []
    for _ in range(1 if name == "no-store" else 2):  # its keys and values are stored by then
        here.append(nsa(*command, "--no-server"))
        shutil.rmtree(cache_folder / "answers", ignore_errors=True)
    forget(cache_folder)
    forbid()
    for code, out, err in here:
        found = nsa(*command)
        assert found[0] == code == 0
        assert unchanging(found[1]) == unchanging(out)
        assert unchanging(found[2]) == unchanging(err)
        shutil.rmtree(cache_folder / "answers", ignore_errors=True)


def _is_partial(event: Event) -> bool:
    """Whether the event comes only where the reading takes long."""
    return isinstance(event, Progress) and 0 < event.done < event.total


def test_the_events_are_the_same(
    asker: Any,
    process: Any,
    cache_folder: Path,
    text_file: Path,
    forbid: Callable[[], None],
    substance: Any,
) -> None:
    del process
    seen: list[list[Event]] = []
    answers = []
    for server in (False, True):
        forget(cache_folder)
        if server:
            forbid()
        answers.append(substance(asker(text_file, max_tokens=9, server=server)))
        seen.append(
            [event for event in asker.events if event != LOADING and not _is_partial(event)]
        )
    assert seen[0] == seen[1]
    assert answers[0] == answers[1]
    kinds = {type(event) for event in seen[1]}
    assert kinds >= {Progress, Stage, AnswerText}


def test_verbose_shows_the_steps_of_the_server(
    start_nsa: Any, tiny_model: Path, process: Any, text_file: Path
) -> None:
    del process
    command = ("ask", str(text_file), "Who?", "--model", str(tiny_model), "--no-store")
    shown = []
    for more in (["--no-server"], []):
        client = start_nsa("-v", *command, *more)
        _, err = client.communicate(timeout=120)
        assert client.returncode == 0
        shown.append([re.sub(r"\d+\.\d", "N", line) for line in err.splitlines()])
    assert "nsa: passage at" in " ".join(shown[0])
    assert [line for line in shown[1] if "working through the" not in line] == shown[0]


def test_an_answer_is_kept_as_ever(
    asker: Any, process: Any, text_file: Path, forbid: Callable[[], None], substance: Any
) -> None:
    del process
    forbid()
    first = asker(text_file)
    again = asker(text_file, remember=True)
    assert "answered before; --no-store asks anew" in asker.notes
    assert substance(again) == substance(first)


def test_a_second_model_answers(
    start_process: Any,
    other_model: Path,
    asker: Any,
    cache_folder: Path,
    text_file: Path,
    forbid: Callable[[], None],
    substance: Any,
) -> None:
    here = asker(text_file, answer_model=str(other_model), system="Be brief.")
    forget(cache_folder)
    start_process(answer_model=str(other_model))
    forbid()
    there = asker(text_file, answer_model=str(other_model), system="Be brief.")
    assert substance(there) == substance(here)
    assert there.model == here.model == str(other_model)


@pytest.mark.parametrize(
    ("server", "client"),
    [
        ({}, {"dense": True}),
        ({}, {"answer_blocks": 4}),
        ({}, {"server": False}),
        ({"quantization": "int8"}, {}),
        ({"memory_bytes": 10**9}, {}),
    ],
)
def test_other_settings_are_not_served(
    server: dict[str, Any],
    client: dict[str, Any],
    start_process: Any,
    asker: Any,
    alone: list[int],
    text_file: Path,
) -> None:
    start_process(**server)
    asker(text_file, **client)
    assert alone == [0]


def test_a_setting_forbids_the_server(
    nsa: Run, process: Any, alone: list[int], text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del process
    assert nsa("ask", str(text_file), "Who?")[0] == 0
    assert alone == []
    monkeypatch.setenv("NSA_SERVER", "no")
    assert nsa("ask", str(text_file), "When?")[0] == 0
    assert alone == [0]
    monkeypatch.setenv("NSA_SERVER", "maybe")
    code, _, err = nsa("ask", str(text_file), "Where?")
    assert code == 2
    assert "NSA_SERVER: server must be yes or no, got 'maybe'" in err


def test_errors_have_their_words_and_exit_codes(
    nsa: Run, process: Any, tmp_path: Path, forbid: Callable[[], None]
) -> None:
    del process
    forbid()
    path = tmp_path / "long.txt"
    path.write_text("a word " * 200)
    command = ("ask", str(path), "Who?", "--cache-limit", "0.00001")
    code, out, err = nsa(*command)
    assert (code, out) == (4, "")
    assert "there is room for the keys and values of" in err


def test_documents_take_turns(
    asker: Any,
    process: Any,
    tmp_path: Path,
    prose: Any,
    forbid: Callable[[], None],
    substance: Any,
) -> None:
    paths = [tmp_path / f"{number}.txt" for number in range(2)]
    for number, path in enumerate(paths):
        path.write_text(prose(60, seed=number))
    here = [substance(asker(path, server=False)) for path in paths]
    forbid()
    for number in (0, 1, 0):
        assert substance(asker(paths[number])) == here[number]
        events: queue.Queue[Event] = queue.Queue()
        source = Source(name="b.txt", data=prose(50).encode(), named=True)
        asked = Asked(question="Who?", max_tokens=4)
        job = Job(sources=[source], name="b.txt", asked=asked, deliver=events.put)
        process.scheduler.submit(job)
        while not isinstance(event := events.get(timeout=120), AnswerFinished):
            assert not isinstance(event, Failed), event.error


def test_a_busy_server_is_not_waited_for(
    asker: Any, process: Any, alone: list[int], text_file: Path
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def steps() -> Generator[Event, None, Event]:
        begun.set()
        go_on.wait(60)
        yield LOADING
        return Found(matches=())

    job = Job(sources=(), name="", asked=Work(steps=steps), deliver=[].append, key=b"other")
    process.scheduler.submit(job)
    assert begun.wait(60)
    assert asker(text_file).answer
    assert alone == [0]
    go_on.set()
    wait_for(lambda: not process.scheduler.is_busy(b""))
    alone.clear()
    assert asker(text_file).answer
    assert alone == []


def test_ctrl_c_cancels_the_work(
    start_nsa: Any,
    tiny_model: Path,
    process: Any,
    after_first_chunk: Any,
    text_file: Path,
    asker: Any,
    alone: list[int],
) -> None:
    clients: list[Any] = []

    def interrupt() -> None:
        wait_for(lambda: bool(clients))
        clients[0].send_signal(signal.SIGINT)
        wait_for(lambda: process.scheduler.running[-1].stopped)

    seen = after_first_chunk(interrupt)
    clients.append(start_nsa("ask", str(text_file), "Who?", "--model", str(tiny_model)))
    out, err = clients[0].communicate(timeout=120)
    assert clients[0].returncode == 130
    assert out == ""
    assert "nsa: interrupted. Run it again to continue; finished work is kept." in err
    wait_for(lambda: not process.scheduler.running)
    assert len(seen) == 1
    asker(text_file)  # the server goes on
    assert len(seen) > 1
    assert alone == []


def test_the_client_does_not_import_torch(
    start_nsa: Any, tiny_model: Path, process: Any, text_file: Path
) -> None:
    del process
    told = "print(sorted({'torch', 'transformers', 'numpy'} & sys.modules.keys()), file=sys.stderr)"
    first = f"import atexit\natexit.register(lambda: {told})"
    for command in (("ask", str(text_file), "Who?"), ("find", str(text_file), "Who?")):
        client = start_nsa(*command, "--model", str(tiny_model), first=first)
        out, err = client.communicate(timeout=120)
        assert client.returncode == 0, err
        assert out
        assert err.splitlines()[-1] == "[]"


def test_a_server_that_stops_before_the_answer_is_replaced(
    asker: Any,
    process: Any,
    alone: list[int],
    after_first_chunk: Any,
    text_file: Path,
    substance: Any,
    cache_folder: Path,
) -> None:
    here = asker(text_file, server=False)
    alone.clear()
    forget(cache_folder)
    after_first_chunk(process.scheduler.close)
    there = asker(text_file)
    assert substance(there) == substance(here)
    assert alone == [0]


def test_a_server_that_stops_in_an_answer_is_an_error(
    process: Any, tiny_model: Path, alone: list[int], text_file: Path
) -> None:
    options = Options(
        model=str(tiny_model), max_tokens=200, temperature=2, seed=1, cache_limit_bytes=10**8
    )

    def emit(event: Event) -> None:
        if isinstance(event, AnswerText):
            process.scheduler.close()

    with pytest.raises(NsaError) as found:
        next(ask([str(text_file)], ["Who?"], options, emit))
    assert found.value.message == "`nsa serve` ended in the middle of the answer"
    assert (found.value.code, found.value.exit_code) == ("server_ended", 1)
    assert alone == []


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\xff" * 8,
        message([]),
        message({}) + message({}),
        message({"options": {}, "contents": [], "questions": [], "verbose": False}) + message({}),
    ],
)
def test_malformed_requests_end_their_connection_alone(
    data: bytes, process: Any, asker: Any, alone: list[int], text_file: Path
) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(process.warm.path))
        assert client.recv(1000) == message(GREETING)
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        with suppress(ConnectionResetError):  # what it did not read
            assert client.recv(1000) == b""
    assert asker(text_file).answer
    assert alone == []


def test_another_user_is_not_served(
    process: Any, asker: Any, alone: list[int], text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del process
    monkeypatch.setattr(serving, "is_same_user", lambda _: False)
    assert asker(text_file).answer
    assert alone == [0]


def test_a_second_server_leaves_the_socket_to_the_first(
    process: Any, start_process: Any, asker: Any, alone: list[int], text_file: Path
) -> None:
    start_process().stop()
    assert process.warm.path.exists()
    asker(text_file)
    assert alone == []
    process.stop()
    assert not process.warm.path.exists()


def test_a_question_is_use_of_the_server(
    process: Any, asker: Any, text_file: Path, after_first_chunk: Any
) -> None:
    left: list[float] = []
    after_first_chunk(lambda: left.append(process.idle.left(1e-9)))
    asker(text_file)
    assert left == [1e-9]
    wait_for(lambda: process.idle.left(1e-9) <= 0)
