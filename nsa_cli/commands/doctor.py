"""`nsa doctor`."""

from __future__ import annotations

import sys
from dataclasses import asdict

import typer

from nsa_cli.commands import shared

HELP = """Check this machine, and say what to do about what is not well.

\b
    nsa doctor
    nsa doctor --json

Looks at the device, kernels, memory, the model, the cache, formats and settings. Exit code 1 if
something does not work.
"""

_MARKS = {"ok": "ok  ", "warning": "note", "failure": "FAIL"}


def doctor(json: shared.Json = False) -> None:
    """Check this machine, and say what to do about what is not well."""
    from nsa_cli.health import examine

    findings = examine()
    failed = any(finding.state == "failure" for finding in findings)
    if json:
        shared.print_json({"ok": not failed, "checks": [asdict(each) for each in findings]})
    else:
        for finding in findings:
            remedy = f"\n                {finding.remedy}" if finding.remedy else ""
            sys.stdout.write(
                f"{_MARKS[finding.state]}  {finding.what:<8}  {finding.found}{remedy}\n"
            )
        sys.stdout.flush()
    if failed:
        raise typer.Exit(1)
