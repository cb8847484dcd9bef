"""From a base model's folder to one that llama.cpp's converter may read: our weights, and the base's own other files.

A tokenizer that transformers saves again is another one (P35), so every file is a link to the base's; only what could
run code, or would make the converter pick another chat template than transformers does (P41), stays behind.
"""

import json
from pathlib import Path
from typing import Any

# Configuration, tokenizer, template, licence and model card. Never Python files: the converter trusts remote code.
READ_BY_CONVERTER = (".json", ".jinja", ".model", ".txt", ".md")
TOKENIZER_CONFIG = "tokenizer_config.json"
TEMPLATE = "chat_template.jinja"


def model_folder(base: Path, weights: Path, into: Path, name: str) -> Path:
    """A folder called `name` in `into` with links to the files of `base` and to the safetensors in `weights`.

    The folder's name ends up in the GGUF's metadata, so it is the model's, never this machine's.
    """
    folder = into / name
    folder.mkdir(parents=True)
    for file in sorted(base.iterdir()):
        if file.suffix in READ_BY_CONVERTER and file.is_file() and not file.name.endswith(".safetensors.index.json"):
            (folder / file.name).symlink_to(file.resolve())
    for file in sorted(weights.iterdir()):
        if file.name.startswith("model") and ".safetensors" in file.name:
            (folder / file.name).symlink_to(file.resolve())
    _let_one_template_stand(folder)
    return folder


def intended_template(base: Path) -> str | None:
    """The chat template that transformers uses: chat_template.jinja, else the one in tokenizer_config.json.

    Where a model has several by name, the one called ``default``.
    """
    if (base / TEMPLATE).is_file():
        return (base / TEMPLATE).read_text(encoding="utf-8")
    found = _json(base / TOKENIZER_CONFIG).get("chat_template") or _json(base / "chat_template.json").get(
        "chat_template"
    )
    if isinstance(found, list):
        found = next((each["template"] for each in found if each.get("name") == "default"), None)
    return found


def _let_one_template_stand(folder: Path) -> None:
    # gguf-py prefers tokenizer_config.json, transformers the .jinja file: a stale template in the former would win.
    settings = _json(folder / TOKENIZER_CONFIG)
    if (folder / TEMPLATE).is_file() and settings.pop("chat_template", None) is not None:
        (folder / TOKENIZER_CONFIG).unlink()
        (folder / TOKENIZER_CONFIG).write_text(json.dumps(settings, ensure_ascii=False, indent=2), encoding="utf-8")


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content
