"""`-v`: what is done, step by step, on standard error.

Steps are logged to `nsa`, which nobody hears unless they are asked for.
"""

from __future__ import annotations

import logging
import sys

log = logging.getLogger("nsa")
"""Where steps are logged, at the level INFO."""


class _Lines(logging.Handler):
    """A line for each step, above a progress bar where there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        from nsa_cli.documents.location import printable

        sys.stderr.write(f"nsa: {printable(record.getMessage())}\n")


def explain() -> None:
    """Show steps from now on."""
    log.setLevel(logging.INFO)
    if not any(isinstance(handler, _Lines) for handler in log.handlers):
        log.addHandler(_Lines())
    log.propagate = False
