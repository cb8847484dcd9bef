"""``python -m tunesmith.llama_cpp``: the tools, built if there are none, and where they are on standard output."""

import sys
import time

from tunesmith.llama_cpp.build import Progress, provide_tools
from tunesmith_api.failures import StageFailure


def _printer() -> Progress:
    """Lines on standard error: one for each new step, and one for each tenth of a step that takes long."""
    began = time.monotonic()
    last = ("", -1)

    def show(fraction: float, doing: str) -> None:
        nonlocal last
        if (doing, int(fraction * 10)) != last:
            last = (doing, int(fraction * 10))
            print(f"{fraction:4.0%} {time.monotonic() - began:4.0f} s  {doing}", file=sys.stderr, flush=True)

    return show


def main() -> int:
    try:
        tools = provide_tools(_printer())
    except StageFailure as failure:
        print(f"{failure.failure}: {failure.message}\n{failure.hint}", file=sys.stderr)
        return failure.exit_code
    print(f"llama.cpp {tools.build} in {tools.folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
