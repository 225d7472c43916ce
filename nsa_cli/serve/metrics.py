"""Counts of requests for `/metrics`, in the text format of Prometheus, and the request log."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import quote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nsa_cli.events import AnswerFinished

CLIENT_GONE = 499
"""The status that other servers log for a disconnected client; nothing receives it."""

_SECONDS = (0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0, 300.0)
"""Upper bounds of the histogram of seconds."""

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_COUNTS = "nsa.token_counts"
_LONGEST_PATH = 200


@dataclass(slots=True)
class TokenCounts:
    """Tokens of one request or of all.

    Attributes:
        read: Tokens of documents and questions that the model read.
        reused: Tokens of documents whose keys and values were stored.
        answered: Tokens of answers.
    """

    read: int = 0
    reused: int = 0
    answered: int = 0

    def add(self, answers: Sequence[AnswerFinished]) -> None:
        """Add the tokens of one request's answers."""
        first = answers[0].stats
        if first.decode_tokens_per_second == 0 and first.time_to_first_token_seconds == 0:
            self.reused += first.document_tokens  # from the answer cache
            return
        self.read += first.document_tokens - first.reused_tokens + first.question_tokens
        self.reused += first.reused_tokens
        self.answered += sum(each.stats.answer_tokens for each in answers)

    def add_reading(self, document_tokens: int, reused_tokens: int) -> None:
        """Add the tokens of a document that was read without a question."""
        self.read += document_tokens - reused_tokens
        self.reused += reused_tokens


def counts_of(scope: Scope) -> TokenCounts:
    """The token counts of a request, which its route adds to."""
    found: TokenCounts = scope.setdefault(_COUNTS, TokenCounts())
    return found


@dataclass(slots=True)
class _Durations:
    """A histogram of seconds."""

    counts: list[int] = field(default_factory=lambda: [0] * len(_SECONDS))
    total: int = 0
    seconds: float = 0.0

    def add(self, seconds: float) -> None:
        self.total += 1
        self.seconds += seconds
        for number, bound in enumerate(_SECONDS):
            self.counts[number] += seconds <= bound


class Metrics:
    """Counts of finished requests; used by the event loop only."""

    def __init__(self) -> None:
        self.running = 0
        self._requests: dict[tuple[str, str, int], int] = {}
        self._seconds: dict[str, _Durations] = {}
        self._tokens = TokenCounts()

    def add(
        self, method: str, route: str, status: int, seconds: float, tokens: TokenCounts
    ) -> None:
        """Count a finished request."""
        key = (method if method in _METHODS else "OTHER", route, status)
        self._requests[key] = self._requests.get(key, 0) + 1
        self._seconds.setdefault(route, _Durations()).add(seconds)
        self._tokens.read += tokens.read
        self._tokens.reused += tokens.reused
        self._tokens.answered += tokens.answered

    def text(self, gauges: Mapping[str, tuple[str, Mapping[str, float]]]) -> str:
        """All counts in the text format of Prometheus.

        Args:
            gauges: Other values by name: a description, and values by labels.
        """
        lines = _head("nsa_requests_total", "counter", "Finished requests.")
        for (method, route, status), count in sorted(self._requests.items()):
            labels = f'method="{method}",route="{route}",status="{status}"'
            lines.append(f"nsa_requests_total{{{labels}}} {count}")
        name = "nsa_request_seconds"
        lines += _head(name, "histogram", "Seconds of a request, until its last byte.")
        for route, found in sorted(self._seconds.items()):
            for bound, count in zip(_SECONDS, found.counts, strict=True):
                lines.append(f'{name}_bucket{{route="{route}",le="{bound:g}"}} {count}')
            lines.append(f'{name}_bucket{{route="{route}",le="+Inf"}} {found.total}')
            lines.append(f'{name}_sum{{route="{route}"}} {found.seconds:.6f}')
            lines.append(f'{name}_count{{route="{route}"}} {found.total}')
        lines += _head("nsa_tokens_total", "counter", "Tokens read, reused and answered.")
        for kind in ("read", "reused", "answered"):
            lines.append(f'nsa_tokens_total{{kind="{kind}"}} {getattr(self._tokens, kind)}')
        running = ("Requests that are not finished.", {"": float(self.running)})
        for gauge, (what, values) in {"nsa_requests_running": running, **gauges}.items():
            lines += _head(gauge, "gauge", what)
            lines += [f"{gauge}{labels} {value:.0f}" for labels, value in values.items()]
        return "\n".join(lines) + "\n"


def _head(name: str, kind: str, what: str) -> list[str]:
    return [f"# HELP {name} {what}", f"# TYPE {name} {kind}"]


class MetricsMiddleware:
    """Counts and logs each request.

    Args:
        app: The application.
        metrics: The counts.
        routes: Paths of routes by endpoint.
        log: Receives a line for each request, or None. The line holds method, path, status,
            seconds and token counts, and no contents.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        metrics: Metrics,
        routes: Callable[[Any], str],
        log: Callable[[str], None] | None = None,
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._routes = routes
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on and count it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.monotonic()
        status, complete = CLIENT_GONE, False
        tokens = counts_of(scope)

        async def noted(message: Message) -> None:
            nonlocal status, complete
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                complete = True

        self._metrics.running += 1
        try:
            await self._app(scope, receive, noted)
        finally:
            self._metrics.running -= 1
            status = status if complete else CLIENT_GONE
            seconds = time.monotonic() - began
            route = self._routes(scope.get("endpoint"))
            self._metrics.add(scope["method"], route, status, seconds, tokens)
            if self._log is not None:
                self._log(_line(scope, status, seconds, tokens))


def _line(scope: Scope, status: int, seconds: float, tokens: TokenCounts) -> str:
    """A line of the log. The query is omitted: it can name documents."""
    method = quote(scope["method"][:20], safe="")
    path = quote(scope["path"], safe="/:-._~")[:_LONGEST_PATH]
    when = datetime.now().astimezone().isoformat(timespec="seconds")
    return (
        f"{when} {method} {path} {status} {seconds:.3f}s "
        f"read={tokens.read} reused={tokens.reused} answered={tokens.answered}"
    )
