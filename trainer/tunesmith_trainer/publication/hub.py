"""A published folder is pushed to a repository of a Hugging Face hub (``HF_ENDPOINT`` honoured)."""

import logging
from pathlib import Path

from tunesmith.resolve.hub import told
from tunesmith.secrets import secret_folder, secret_value
from tunesmith_api.settings import HubSettings

log = logging.getLogger(__name__)


def push(folder: Path, hub: HubSettings, secrets: Path | None) -> str:
    """Make the repository if it is not there and upload the wanted files in one commit; the commit's address.

    Raises `AccessDenied`, `SourceUnavailable`, `SecretMissing`.
    """
    from huggingface_hub import HfApi

    api = HfApi(token=secret_value(secret_folder(hub.secret, secrets), "token"))

    def upload() -> str:
        api.create_repo(hub.repo, private=hub.private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=hub.repo,
            folder_path=folder,
            allow_patterns=list(hub.files),
            commit_message="Publish measured GGUF files",
        )
        return str(commit.commit_url)

    url = told(f"hf://{hub.repo}", None, upload)
    log.info("pushed to %s", url)
    return url
