"""A model's folder and the layers that an adapter is asked for in, an error out where it has none of that name.

The model is built without weights (a second, and no memory): what is wrong is known before a GPU is taken.
"""

from collections.abc import Iterable
from pathlib import Path

from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_trainer.engines.adapter import check_targets, linear_names


def check_folder_targets(folder: Path, targets: Iterable[str]) -> None:
    """Raises SpecInvalid for a target that is the name of no layer; ModelInvalid where transformers lacks the class."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        # The names are transformers' own and not those of the weight files, which it renames and joins for some models.
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise StageFailure(FailureClass.MODEL_INVALID, f"transformers cannot load the model: {error}") from error
    check_targets(targets, linear_names(model), bool(config.tie_word_embeddings))
