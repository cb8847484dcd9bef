"""Where built tools, downloads and the default local store live: one folder in the user's cache."""

import os
from pathlib import Path


def cache_dir() -> Path:
    """``$TUNESMITH_CACHE``, else ``tunesmith`` in the user's cache folder (XDG base directory specification)."""
    if own := os.environ.get("TUNESMITH_CACHE"):
        return Path(own).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "tunesmith"


def config_dir() -> Path:
    """``tunesmith`` in the user's configuration folder; local Secrets are folders under it."""
    base = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(base).expanduser() / "tunesmith"
