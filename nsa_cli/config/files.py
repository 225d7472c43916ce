"""Where settings files are."""

from __future__ import annotations

from pathlib import Path

PROJECT_FILE = ".nsa.toml"


def user_file() -> Path:
    """The user's file; it need not exist."""
    import platformdirs

    return Path(platformdirs.user_config_dir("nsa")) / "config.toml"


def project_file(folder: Path | None = None) -> Path | None:
    """The project's file, or None where there is none."""
    try:
        start = (folder or Path.cwd()).resolve()
    except OSError:  # the current folder is gone
        return None
    return next(
        (
            each / PROJECT_FILE
            for each in (start, *start.parents)
            if (each / PROJECT_FILE).is_file()
        ),
        None,
    )
