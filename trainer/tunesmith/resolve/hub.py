"""Repositories of a Hugging Face hub (``HF_ENDPOINT`` honoured): what they hold at a commit, and their files."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tunesmith.secrets import secret_value
from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.resolved import ResolvedFile

_Result = TypeVar("_Result")
# A hub that does not answer by then is away; huggingface_hub's own default for metadata is 10 s.
_TIMEOUT_SECONDS = 10.0


def list_repository(
    repository: str, kind: str, revision: str | None, secret: Path | None
) -> tuple[str, tuple[ResolvedFile, ...], str | None]:
    """The commit that `revision` (default: the main branch) names now, its files, and the licence of the card."""
    from huggingface_hub import HfApi

    api = HfApi(token=secret_value(secret, "token"))
    ask = api.model_info if kind == "model" else api.dataset_info

    def info() -> tuple[str, tuple[ResolvedFile, ...], str | None]:
        found = ask(repository, revision=revision, files_metadata=True, timeout=_TIMEOUT_SECONDS)
        files = tuple(
            ResolvedFile(
                path=item.rfilename,
                size=item.size or 0,
                digest=f"sha256:{item.lfs.sha256}" if item.lfs else f"git:{item.blob_id}",
            )
            for item in found.siblings or ()
        )
        card = found.card_data
        return str(found.sha), files, None if card is None else card.get("license")

    return told(f"hf://{repository}", revision, info)


@dataclass(frozen=True, slots=True)
class Commit:
    """A repository of a kind (``model`` or ``dataset``) at a commit."""

    repository: str
    kind: str
    revision: str


def download(commit: Commit, files: Sequence[ResolvedFile], into: Path, secret: Path | None) -> None:
    """Bring files of a repository at a commit into a folder, several at once, resumable."""
    from huggingface_hub import snapshot_download

    def fetch() -> None:
        snapshot_download(
            commit.repository,
            repo_type=commit.kind,
            revision=commit.revision,
            local_dir=into,
            allow_patterns=[file.path for file in files],
            token=secret_value(secret, "token"),
            etag_timeout=_TIMEOUT_SECONDS,
        )

    told(f"hf://{commit.repository}", commit.revision, fetch)


def told(where: str, revision: str | None, ask: Callable[[], _Result]) -> _Result:
    """Run `ask`; the hub's errors become classes with what a person can do about them."""
    import httpx
    from huggingface_hub import errors

    try:
        return ask()
    except errors.GatedRepoError as error:
        hint = "Accept the model's licence on its page, and name a Secret with the key token of that account."
        raise StageFailure(
            FailureClass.ACCESS_DENIED, f"{where} is gated and this token may not read it", hint
        ) from error
    except errors.RevisionNotFoundError as error:
        hint = "Name a branch, tag or commit of that repository, or leave revision out for its main branch."
        raise StageFailure(FailureClass.SOURCE_UNAVAILABLE, f"{where} has no revision {revision!r}", hint) from error
    except errors.RepositoryNotFoundError as error:
        hint = "Check the name; a private repository needs a Secret with the key token."
        raise StageFailure(FailureClass.SOURCE_UNAVAILABLE, f"{where} does not exist or is private", hint) from error
    except errors.HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        denied = status in (401, 403)
        failure = FailureClass.ACCESS_DENIED if denied else FailureClass.SOURCE_UNAVAILABLE
        raise StageFailure(failure, f"{where}: the hub answered {status}") from error
    except (errors.LocalEntryNotFoundError, errors.IncompleteSnapshotError, httpx.HTTPError, OSError) as error:
        hint = "Check the network and HF_ENDPOINT; the same command goes on where it stopped."
        message = f"{where}: the hub cannot be reached ({type(error).__name__})"
        raise StageFailure(FailureClass.SOURCE_UNAVAILABLE, message, hint) from error
