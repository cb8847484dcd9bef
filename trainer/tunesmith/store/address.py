"""A store's address as somebody wrote it becomes the one that means the same from every folder of this machine."""

import os
from pathlib import Path
from urllib.parse import unquote


def absolute_address(uri: str, base: Path) -> str:
    """The absolute path of a store in a folder, taken from `base` where it is relative; another address as it is.

    Each store has one spelling: without ``file://``, ``.``, ``..`` and ``/`` at its end. `open_store` says what is no
    address.
    """
    scheme, separator, rest = uri.partition("://")
    if scheme == "s3" and separator:
        return uri.rstrip("/")
    if scheme == "file" and separator:
        return _absolute(unquote(rest.removeprefix("localhost") if rest.startswith("localhost/") else rest), base)
    return uri if separator or not uri else _absolute(uri, base)


def _absolute(path: str, base: Path) -> str:
    return os.path.normpath(base.absolute() / Path(path).expanduser())
