"""The demo's model, as examples/smollm2.py makes it, is one that a job takes."""

from pathlib import Path

from support.models import smollm2
from tunesmith.resolve import Access, resolve_model
from tunesmith_api.spec import Model


def test_the_folder_of_the_demo_resolves(tmp_path: Path) -> None:
    """Family, template, size and licence are known from its files alone; every file that training needs is pinned."""
    found = resolve_model(Model(source=f"file://{smollm2()}"), Access(tmp_path))

    assert (found.family, found.chat, found.license) == ("smollm2", True, "apache-2.0")
    assert {file.path for file in found.files} >= {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    # 134.5 million: HuggingFaceTB/SmolLM2-135M-Instruct's model card, "Model Summary", counts them as 135M.
    assert found.dimensions.parameters == 134_515_008
    assert (found.dimensions.layers, found.dimensions.hidden_size, found.dimensions.dtype) == (30, 576, "bfloat16")
