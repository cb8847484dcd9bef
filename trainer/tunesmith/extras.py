"""How a part of Tunesmith that is not installed is installed."""


def install_command(extra: str) -> str:
    """What a person types; from the source, since no package index has a release that would be this one."""
    what = f"'.[{extra}]'" if extra else "."
    return f"pip install {what} in Tunesmith's source folder"
