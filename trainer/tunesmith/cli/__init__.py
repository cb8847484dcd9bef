"""The command line: ``tunesmith COMMAND``; each command is a module of this package."""

from tunesmith.cli.app import main

__all__ = ["main"]
