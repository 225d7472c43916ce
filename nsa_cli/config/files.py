"""The paths of the settings files."""

from __future__ import annotations

from pathlib import Path

PROJECT_FILE = ".nsa.toml"


def user_file() -> Path:
    """Return the path of the user's file, which may not exist, as for a user without a home."""
    from nsa_models.paths import config_folder

    return config_folder() / "config.toml"


def project_file(folder: Path | None = None) -> Path | None:
    """Return the nearest project file in a folder or above it; None without one."""
    try:
        start = (folder or Path.cwd()).resolve()
    except OSError:  # the current folder is gone
        return None
    paths = (each / PROJECT_FILE for each in (start, *start.parents))
    return next((path for path in paths if path.is_file()), None)
