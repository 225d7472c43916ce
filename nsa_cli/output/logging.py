"""The logger `nsa`, silent unless `-v` shows its messages on standard error."""

from __future__ import annotations

import logging
import sys

log = logging.getLogger("nsa")
"""The program's logger; steps have the level INFO."""


class _StderrHandler(logging.Handler):
    """Write each message as a line on standard error, above a progress bar if one is shown."""

    def emit(self, record: logging.LogRecord) -> None:
        from nsa_cli.documents.location import printable

        sys.stderr.write(f"nsa: {printable(record.getMessage())}\n")


def explain() -> None:
    """Show log messages on standard error from now on."""
    log.setLevel(logging.INFO)
    if not any(isinstance(handler, _StderrHandler) for handler in log.handlers):
        log.addHandler(_StderrHandler())
    log.propagate = False
