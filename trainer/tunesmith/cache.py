"""Folders of this user: where built tools, downloads, the default local store and the Secrets live."""

import os
from pathlib import Path

CACHE, SECRETS = "TUNESMITH_CACHE", "TUNESMITH_SECRETS"
# Folders that a user may name in the environment.
_NAMED = (CACHE, SECRETS, "TUNESMITH_LLAMA_CPP", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")


def named_folder(variable: str) -> Path | None:
    """The folder that an environment variable names, absolute; None where it is unset."""
    own = os.environ.get(variable)
    return Path(own).expanduser().absolute() if own else None


def named_folders() -> dict[str, str]:
    """The environment variables that name folders, made absolute: for a process that works in another folder."""
    found = {variable: named_folder(variable) for variable in _NAMED}
    return {variable: str(folder) for variable, folder in found.items() if folder is not None}


def cache_dir() -> Path:
    """``$TUNESMITH_CACHE``, else ``tunesmith`` in the user's cache folder (XDG base directory specification)."""
    return named_folder(CACHE) or (named_folder("XDG_CACHE_HOME") or Path.home() / ".cache") / "tunesmith"


def config_dir() -> Path:
    """``tunesmith`` in the user's configuration folder; local Secrets are folders under it."""
    return (named_folder("XDG_CONFIG_HOME") or Path.home() / ".config") / "tunesmith"
