"""``python -P -m tunesmith_trainer.llama.convert_child JOBS``: llama.cpp's converter scripts, one after the other.

JOBS is a JSON list of [script, argument, ...]. Each script would spend most of its time importing torch and
transformers; in one process they are imported once. Ends at the first script that fails, with its traceback.
"""

import json
import os
import runpy
import sys
from pathlib import Path


def main() -> int:
    """Run every job; 0 if none failed."""
    # The scripts load tokenizers with trust_remote_code: without the net and without Python files in the model folder
    # (see `conversion.model_folder`) there is no code to trust.
    os.environ["HF_HUB_OFFLINE"] = os.environ["TRANSFORMERS_OFFLINE"] = "1"
    for script, *arguments in json.loads(Path(sys.argv[1]).read_text()):
        if code := _run(Path(script), arguments):
            return code
    return 0


def _run(script: Path, arguments: list[str]) -> int:
    # As `python SCRIPT` would have it: the script's folder first, since it imports the package beside it.
    if str(script.parent) not in sys.path:
        sys.path.insert(0, str(script.parent))
    sys.argv = [str(script), *arguments]
    try:
        runpy.run_path(str(script), run_name="__main__")
    except SystemExit as end:
        return int(end.code) if isinstance(end.code, int) else int(end.code is not None)
    return 0


if __name__ == "__main__":
    sys.exit(main())
