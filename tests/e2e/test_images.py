"""The images that pods run: small, labelled, and indifferent to which user they run as."""

from typing import Any

import httpx
import pytest

from support.real_cluster.images import NAMES, Builder, reference
from support.real_cluster.layout import Layout, layout
from support.real_cluster.pods import run_pod

# Compressed, in bytes: what a node pulls.
LARGEST = {"operator": 200_000_000, "gguf": 400_000_000}
LABELS = {"title", "description", "licenses", "version", "revision"}
# What a stage of it does first, and whatever asks who it is or where its home is.
IMPORTS = {
    "operator": "import tunesmith_operator.__main__",
    "gguf": "import tunesmith_trainer.quantize, tunesmith_trainer.publish",
    "trainer": "import torch, transformers, peft, trl, tunesmith_trainer.train",
}
BEGINS = "import pathlib, tempfile; pathlib.Path.home().stat(); tempfile.mkdtemp(); {}"
VARIANTS = """
import pathlib, sys
found = {path.name for path in pathlib.Path("/opt/llama.cpp").rglob("libggml-cpu-*.so")}
wanted = {f"libggml-cpu-{kind}.so" for kind in ("x64", "sse42", "haswell", "skylakex", "sapphirerapids")}
sys.exit(1 if wanted - found else 0)
"""
TORCH = "import importlib.util, sys; sys.exit(importlib.util.find_spec('torch') is None)"


def of_the_registry(name: str, what: str) -> dict[str, Any]:
    """A manifest, or a blob, of an image of this working tree."""
    repository = f"http://{layout().registry}/v2/tunesmith/{name}"
    kind = "application/vnd.oci.image.manifest.v1+json"
    answer = httpx.get(f"{repository}/{what}", headers={"Accept": kind}, trust_env=False, follow_redirects=True)
    return dict(answer.raise_for_status().json())


@pytest.mark.parametrize("name", NAMES)
def test_it_is_labelled_and_not_larger_than_it_may_be(cluster: Layout, name: str) -> None:
    """By the registry's own word."""
    del cluster  # its registry
    manifest = of_the_registry(name, f"manifests/{reference(name).rpartition(':')[2]}")
    config = of_the_registry(name, f"blobs/{manifest['config']['digest']}")["config"]

    assert {f"org.opencontainers.image.{label}" for label in LABELS} <= config["Labels"].keys()
    assert config["User"] == "65532:65532"
    assert sum(layer["size"] for layer in manifest["layers"]) <= LARGEST.get(name, 10**10)


@pytest.mark.parametrize("name", NAMES)
def test_any_user_may_run_it(cluster: Layout, namespace: str, name: str) -> None:
    """With a root that cannot be written to."""
    assert run_pod(cluster, namespace, name, f"any-{name}", BEGINS.format(IMPORTS[name]))["exitCode"] == 0


@pytest.mark.parametrize(("name", "code"), [("operator", 1), ("gguf", 1), ("trainer", 0)])
def test_torch_is_in_the_trainer_alone(cluster: Layout, namespace: str, name: str, code: int) -> None:
    """It is nine tenths of that image."""
    assert run_pod(cluster, namespace, name, f"torch-{name}", TORCH)["exitCode"] == code


def test_one_build_of_llama_cpp_serves_all_processors(cluster: Layout, namespace: str) -> None:
    """A library for each generation; which one is loaded is chosen where it runs."""
    assert run_pod(cluster, namespace, "gguf", "variants", VARIANTS)["exitCode"] == 0


@pytest.mark.parametrize("name", NAMES)
def test_own_code_is_the_last_layer_and_a_small_one(cluster: Layout, name: str) -> None:
    """A change of it is pulled in a moment."""
    del cluster  # its registry
    layers = of_the_registry(name, f"manifests/{reference(name).rpartition(':')[2]}")["layers"]
    assert layers[-1]["size"] < 2_000_000


@pytest.mark.slow
# A quarter of an hour on two idle cores, and several times that beside other work.
@pytest.mark.timeout(7200)
def test_llama_cpp_is_compiled_where_no_build_of_it_is_given(cluster: Layout) -> None:
    """In the images' own build stage: what the operating guide's `docker build` does."""
    Builder(cluster.kept).compiled()
