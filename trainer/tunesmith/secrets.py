"""A Secret's name becomes a folder of files: mounted in a pod, a folder under ``$TUNESMITH_SECRETS`` on a laptop."""

from pathlib import Path

from tunesmith.cache import SECRETS, config_dir, named_folder
from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.spec import Publish

# The key of a hub's Secret.
HUB_TOKEN = "token"  # noqa: S105  # its name


def secrets_root() -> Path:
    """``$TUNESMITH_SECRETS``, else ``secrets`` in the user's config folder (contract 7)."""
    return named_folder(SECRETS) or config_dir() / "secrets"


def secret_folder(name: str | None, root: Path | None = None) -> Path | None:
    """The folder of a Secret, None where the manifest names none; `SecretMissing` where it names one that is absent."""
    if name is None:
        return None
    folder = (root or secrets_root()) / name
    if not folder.is_dir():
        raise StageFailure(
            FailureClass.SECRET_MISSING,
            f"the Secret {name!r} is not there",
            f"Create it in the job's namespace; locally make the folder {folder} with one file per key.",
        )
    return folder


def secret_key(name: str | None, key: str, root: Path | None = None) -> str | None:
    """One key of a named Secret, None where the manifest names none; `SecretMissing` where Secret or key are absent."""
    folder = secret_folder(name, root)
    if folder is None:
        return None
    value = secret_value(folder, key)
    if not value:
        raise StageFailure(
            FailureClass.SECRET_MISSING,
            f"the Secret {name!r} {lacking(folder, key)}",
            f"Create it with that key in the job's namespace, or name another; locally make the file {folder / key}.",
        )
    return value


def lacking(folder: Path, key: str) -> str:
    """What is wrong with a Secret that has not what is needed: in a pod one that is absent is an empty folder."""
    there = any(not each.name.startswith(".") for each in folder.iterdir())
    return f"has no key {key!r}" if there else f"is not there, or empty: it needs the key {key!r}"


def refuse_push_without_token(publish: Publish, root: Path | None = None) -> None:
    """`SecretMissing` where the hub that gets a copy needs a Secret that is absent; asked before hours of work."""
    if publish.hub is not None and publish.hub.secret_ref is not None:
        secret_key(publish.hub.secret_ref.name, HUB_TOKEN, root)


def secret_value(folder: Path | None, key: str) -> str | None:
    """One key of a Secret without the newline that editors add, None where it is not set."""
    if folder is None or not (folder / key).is_file():
        return None
    return (folder / key).read_text().strip()
