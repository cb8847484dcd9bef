"""``python -m support.real_cluster up|down``."""

import sys

from support.real_cluster.layout import layout
from support.real_cluster.lifecycle import down, up


def main() -> None:
    """Start or stop."""
    here = layout()
    match sys.argv[1:]:
        case ["up"]:
            up(here)
            print(here.kubeconfig)
        case ["down"]:
            down(here)
        case _:
            sys.exit("usage: python -m support.real_cluster up|down")


if __name__ == "__main__":
    main()
