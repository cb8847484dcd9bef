"""A published folder is pushed to a repository of a Hugging Face hub (``HF_ENDPOINT`` honoured)."""

import fnmatch
import logging
from pathlib import Path

from tunesmith.published_names import ANSWERS, OWN_FOLDER
from tunesmith.resolve.hub import told
from tunesmith.secrets import HUB_TOKEN, secret_key
from tunesmith.store.folders import files_below
from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.settings import HubSettings

log = logging.getLogger(__name__)

# So begins what huggingface_hub says of a card that the hub refuses (`HfApi._validate_yaml`).
_CARD = "Invalid metadata in README.md"


def push(folder: Path, hub: HubSettings, secrets: Path | None) -> str:
    """Make the repository if it is not there and upload the wanted files in one commit; the commit's address.

    Raises `AccessDenied`, `SourceUnavailable`, `SourceAbsent`, `SecretMissing`, and `SpecInvalid` for a card that the
    hub refuses.
    """
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.utils.tqdm import disable_progress_bars

    # Its bars would stand between the lines of the stage's log.
    disable_progress_bars()
    api = HfApi(token=secret_key(hub.secret, HUB_TOKEN, secrets))
    # upload_folder would make several commits of it, where hf_xet is installed: readers would see half a result.
    additions = [CommitOperationAdd(path, folder / path) for path in _wanted(folder, hub)]

    def upload() -> str:
        api.create_repo(hub.repo, private=hub.private, exist_ok=True)
        commit = api.create_commit(hub.repo, additions, commit_message="Publish measured GGUF files")
        return str(commit.commit_url)

    try:
        url = told(f"hf://{hub.repo}", None, upload)
    except (ValueError, RuntimeError) as error:
        if isinstance(error, ValueError) and _CARD in str(error):
            raise _refused(hub.repo, error) from error
        message = f"hf://{hub.repo}: the upload broke off ({type(error).__name__}: {str(error)[:200]})"
        raise StageFailure(FailureClass.SOURCE_UNAVAILABLE, message, "Run the same command again.") from error
    log.info("pushed %d files to %s", len(additions), url)
    return url


def _wanted(folder: Path, hub: HubSettings) -> list[str]:
    """The files of a published folder that match the manifest's patterns, without what we keep there for ourselves.

    The answers hold rows of the dataset, which may be nobody else's to read: only their own name means them.
    """
    paths = (path.relative_to(folder) for path in files_below(folder))
    names = (path.as_posix() for path in paths if path.parts[0] != OWN_FOLDER)
    # A folder is named by a '/' at its end, as for the hub's own library.
    patterns = [f"{pattern}*" if pattern.endswith("/") else pattern for pattern in hub.files]
    wanted = [name for name in names if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]
    return [name for name in wanted if name != ANSWERS or ANSWERS in patterns]


def _refused(repo: str, error: ValueError) -> StageFailure:
    """What huggingface_hub raises for a README.md whose metadata the hub calls wrong."""
    return StageFailure(
        FailureClass.SPEC_INVALID,
        f"hf://{repo}: the hub refuses the files: {' '.join(str(error).split())[:300]}",
        "What is refused can be left out with spec.publish.hub.files; the other files are in the store all the same.",
    )
