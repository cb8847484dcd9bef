"""``python -m tunesmith``: the command line, where its script is not installed (images)."""

from tunesmith.cli import main

if __name__ == "__main__":
    main()
