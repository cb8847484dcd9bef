"""``python -m support.real_cluster up|down``."""

import sys

from support.real_cluster.layout import layout, recorded
from support.real_cluster.lifecycle import down, up


def main() -> None:
    """Start or stop."""
    match sys.argv[1:]:
        case ["up"]:
            here = layout()
            up(here)
            print(here.kubeconfig)
        case ["down"]:
            known = recorded()
            if known is not None:
                down(known)
        case _:
            sys.exit("usage: python -m support.real_cluster up|down")


if __name__ == "__main__":
    main()
