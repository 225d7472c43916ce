"""What a shell offers for the value of an option or an argument."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress

Completion = Callable[[str], list[str]]

_REGISTERS = "compdef %(complete_func)s %(prog_name)s"
_COMPLETES = f"""if (( ${{+compstate}} )); then
  %(complete_func)s "$@"
else
  {_REGISTERS}
fi"""


def complete_at_first_tab() -> None:
    """Make the script for zsh complete when zsh loads it, which is at the first Tab.

    Typer's script only registers its function then, so that the first Tab offers nothing.
    """
    with suppress(ImportError, AttributeError, KeyError):
        from typer import _completion_shared

        scripts = _completion_shared._completion_scripts
        if _COMPLETES not in scripts["zsh"]:
            scripts["zsh"] = scripts["zsh"].replace(_REGISTERS, _COMPLETES)


def _beginning(names: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]


def model_names(incomplete: str) -> list[str]:
    """Return the named models, the user's own included, that begin so."""
    from nsa_models.errors import NsaError
    from nsa_models.hub.aliases import aliases
    from nsa_models.hub.registry import MODELS

    try:
        own = aliases()
    except NsaError:
        own = {}
    return _beginning([*MODELS, *own], incomplete)


def setting_names(incomplete: str) -> list[str]:
    """Return the settings that begin so."""
    from nsa_cli.config.settings import DEFINITIONS

    return _beginning(DEFINITIONS, incomplete)


def for_metavar(metavar: str | None) -> Completion | None:
    """Return the completion of a value.

    Args:
        metavar: What the help shows for the value: `MODEL`, or words such as `nsa|dense`.

    Returns:
        A function from the beginning of a value to the values; None if any text is a value.
    """
    if metavar == "MODEL":
        return model_names
    words = (metavar or "").split("|")
    if len(words) > 1 and all(map(str.islower, words)):
        return lambda incomplete: _beginning(words, incomplete)
    return None
