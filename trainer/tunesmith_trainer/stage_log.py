"""A stage's log: on its console and in a file, which goes into the store at its end."""

import logging
import uuid
from collections.abc import Callable
from pathlib import Path

from tunesmith.store import Artifacts
from tunesmith.store.logs import put_log
from tunesmith_api.failures import StageFailure
from tunesmith_api.stages import StageRequest

log = logging.getLogger(__name__)
LOG_FILE = "stage.log"


def log_to(path: Path) -> None:
    """Begin it."""
    form = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    # What the libraries say at INFO (each HTTP request, each file) drowns what the stage says.
    for noisy in ("httpx", "urllib3", "huggingface_hub", "filelock"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    makers: tuple[Callable[[], logging.Handler], ...] = (logging.StreamHandler, lambda: logging.FileHandler(path))
    for make in makers:
        handler = make()
        handler.setFormatter(form)
        root.addHandler(handler)


def keep_log(request: StageRequest, artifacts: Artifacts, path: Path) -> None:
    """Store it; where that fails, the console says so."""
    key = request.outputs[0].key if request.outputs else "none"
    try:
        put_log(artifacts.store, artifacts.namespace, (request.stage.value, key, uuid.uuid4().hex), path)
    except (StageFailure, OSError) as error:
        # The result is what counts; a store that is away has been reported as such already.
        log.warning("the log could not be stored: %s", error)
