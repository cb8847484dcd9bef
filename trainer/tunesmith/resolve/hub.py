"""Repositories of a Hugging Face hub (``HF_ENDPOINT`` honoured): what they hold at a commit, and their files."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from tunesmith.resolve.failures import absent, disk_full_is_told
from tunesmith.resolve.model_facts import license_name
from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.resolved import ResolvedFile

_Result = TypeVar("_Result")
# A hub that does not answer by then is away; huggingface_hub's own default for metadata is 10 s.
_TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Repository:
    """What a repository holds at a commit; `license` is its card's, `parameters` the hub's count of its safetensors."""

    revision: str
    files: tuple[ResolvedFile, ...]
    license: str | None
    parameters: int | None


def list_repository(repository: str, kind: str, revision: str | None, token: str | None) -> Repository:
    """What `revision` (default: the main branch) names now."""
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    ask = api.model_info if kind == "model" else api.dataset_info

    def info() -> Repository:
        found = ask(repository, revision=revision, files_metadata=True, timeout=_TIMEOUT_SECONDS)
        files = tuple(
            ResolvedFile(
                path=item.rfilename,
                size=item.size or 0,
                digest=f"sha256:{item.lfs.sha256}" if item.lfs else f"git:{item.blob_id}",
            )
            for item in found.siblings or ()
        )
        counted = getattr(found, "safetensors", None)
        licence = None if found.card_data is None else license_name(found.card_data.get("license"))
        return Repository(str(found.sha), files, licence, None if counted is None else counted.total)

    return told(f"hf://{repository}", revision, info)


@dataclass(frozen=True, slots=True)
class Commit:
    """A repository of a kind (``model`` or ``dataset``) at a commit."""

    repository: str
    kind: str
    revision: str


def download(commit: Commit, files: Sequence[ResolvedFile], into: Path, token: str | None) -> None:
    """Bring files of a repository at a commit into a folder, several at once, resumable."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils.tqdm import disable_progress_bars

    # Its bars would stand between the lines of a log, and between those of our own view.
    disable_progress_bars()

    def fetch() -> None:
        snapshot_download(
            commit.repository,
            repo_type=commit.kind,
            revision=commit.revision,
            local_dir=into,
            allow_patterns=[file.path for file in files],
            token=token,
            etag_timeout=_TIMEOUT_SECONDS,
        )

    with disk_full_is_told(into):
        told(
            f"hf://{commit.repository}", commit.revision, fetch, "; the same command goes on after the last whole file"
        )


def told(where: str, revision: str | None, ask: Callable[[], _Result], then: str = "") -> _Result:
    """Run `ask`; the hub's errors become classes with what a person can do about them.

    `then` is what happens once a hub that is away can be reached again.
    """
    import httpx
    from huggingface_hub import constants, errors

    try:
        return ask()
    except errors.HFValidationError as error:
        hint = "Write hf://org/name as the repository's page has it."
        raise StageFailure(FailureClass.SPEC_INVALID, f"{where} is no repository: {error}", hint) from error
    except errors.GatedRepoError as error:
        hint = "Accept the model's licence on its page, and name a Secret with the key token of that account."
        raise StageFailure(
            FailureClass.ACCESS_DENIED, f"{where} is gated and this token may not read it", hint
        ) from error
    except errors.RevisionNotFoundError as error:
        hint = "Name a branch, tag or commit of that repository, or leave revision out for its main branch."
        raise absent(f"{where} has no revision {revision!r}", hint) from error
    except errors.RepositoryNotFoundError as error:
        hint = "Check the name; a private repository needs a Secret with the key token."
        raise absent(f"{where} does not exist or is private", hint) from error
    except errors.HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        if status in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
            raise absent(f"{where}: the hub answered {status}") from error
        denied = status in (401, 403)
        failure = FailureClass.ACCESS_DENIED if denied else FailureClass.SOURCE_UNAVAILABLE
        raise StageFailure(failure, f"{where}: the hub answered {status}") from error
    # No other OSError: a full disk, or a folder that may not be written, is not the hub's absence.
    except (errors.LocalEntryNotFoundError, httpx.HTTPError, ConnectionError, TimeoutError) as error:
        hint = f"Check the network and HF_ENDPOINT{then}."
        # HF_ENDPOINT may hold a name and a password.
        host = urlsplit(constants.ENDPOINT).netloc.rpartition("@")[2]
        message = f"{where}: the hub {host} cannot be reached ({type(error).__name__})"
        raise StageFailure(FailureClass.SOURCE_UNAVAILABLE, message, hint) from error
