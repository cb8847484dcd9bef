"""Images out of Dockerfiles into the cluster's registry, built by buildah; bases are pulled, or made where none is had.

``python -m support.real_cluster.images [operator gguf trainer]`` builds and pushes them.
"""

import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import httpx

from support.control_plane import ROOT, SOURCE
from support.real_cluster.layout import layout
from support.server_binaries import go, run_to_end
from tunesmith.llama_cpp.find import built_folder

NAMES = ("operator", "gguf", "trainer")
BASE = "docker.io/library/debian:bookworm-slim"
_SUITE = "bookworm"
_TRUSTING = "localhost/debian:trusting"
# How this machine reaches package registries: what it trusts, and its pip's settings where it has any.
_AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
_PIP_SETTINGS = Path("/etc/pip.conf")


def reference(name: str) -> str:
    """Where the image of this working tree is in the cluster's registry: its tag is that of what it is made of."""
    kept = [line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"]
    files = [path for each in kept for path in [ROOT / each, *(ROOT / each).rglob("*")] if path.is_file()]
    digest = hashlib.sha256(name.encode())
    for path in sorted(path for path in files if "__pycache__" not in path.parts):
        digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes())
    return f"{layout().registry}/tunesmith/{name}:{digest.hexdigest()[:12]}"


class Builder:
    """buildah with a storage of its own in the cache, so that layers are kept from one build to the next."""

    def __init__(self, kept: Path) -> None:
        kept.mkdir(parents=True, exist_ok=True)
        self.kept = kept

    def image(self, name: str) -> str:
        """Build and push an image unless the registry has it; its reference."""
        wanted = reference(name)
        if not _is_pushed(wanted):
            print(f"images: building {name}", file=sys.stderr, flush=True)
            self._build(name, wanted, self._llama_cpp() if name != "operator" else None)
            print(f"images: pushing {name}", file=sys.stderr, flush=True)
            self._push(wanted)
            self._forget_earlier(name, wanted)
        return wanted

    def compiled(self) -> None:
        """Compile llama.cpp in an image's own build stage, as for a user, and run it; RuntimeError where that fails."""
        wanted = "localhost/llama-cpp:compiled"
        self._bud("gguf", wanted, "--target", "compiled")
        container = self._run("from", "--pull-never", wanted).strip()
        try:
            self._run("run", "--isolation", "chroot", container, "--", "/llama.cpp/bin/llama-perplexity", "--version")
        finally:
            self._run("rm", container)

    def pause(self) -> str:
        """The image of a pod's own process."""

        def build(work: Path) -> None:
            flags = {"CGO_ENABLED": "0", "GOFLAGS": "-mod=mod"}
            go(["build", "-C", str(SOURCE / "pause"), "-trimpath", "-o", f"{work}/pause", "main.go"], flags)

        return self.program("pause:1", "/pause", build)

    def program(self, name: str, entrypoint: str, build: Callable[[Path], None]) -> str:
        """Push an image of nothing but what is built into a folder, unless the registry has it; its reference."""
        wanted = f"{layout().registry}/{name}"
        if not _is_pushed(wanted):
            with tempfile.TemporaryDirectory() as work:
                build(Path(work))
                self._from_folder(Path(work), wanted, "/", entrypoint=entrypoint)
            self._push(wanted)
        return wanted

    def _push(self, wanted: str) -> None:
        """Packed and unpacked several times as fast as gzip."""
        self._run("push", "--tls-verify=false", "--quiet", "--compression-format", "zstd", wanted)

    def _forget_earlier(self, name: str, wanted: str) -> None:
        """A trainer image takes seven gigabytes: those of earlier trees go from buildah's storage, shared layers stay.

        So do containers of builds that were killed, which would hold theirs.
        """
        listed = ["--format", "{{.Name}}:{{.Tag}}", "--filter", f"reference={layout().registry}/tunesmith/{name}"]
        earlier = set(self._run("images", *listed).split()) - {wanted}
        if earlier:
            self._run("rm", "--all")
            self._run("rmi", *sorted(earlier))
            self._run("rmi", "--prune")

    def _build(self, name: str, wanted: str, llama_cpp: str | None) -> None:
        self._bud(name, wanted, *([] if llama_cpp is None else ["--build-arg", f"LLAMA_CPP={llama_cpp}"]))

    def _bud(self, name: str, wanted: str, *more: str) -> None:
        command = ["bud", "--quiet", "--layers", "--isolation", "chroot", "--pull-never", "--network", "host"]
        command += ["--file", str(ROOT / "images" / name / "Dockerfile"), "--tag", wanted]
        command += ["--build-arg", f"BASE={self._base()}", *more, *self._of_this_machine()]
        self._run(*command, str(ROOT))

    def _of_this_machine(self) -> list[str]:
        """How a build reaches package registries, which stays in no image: pip's settings, the system's authorities.

        uv has its own authorities unless it is told otherwise.
        """
        settings = self.kept / "uv.toml"
        settings.write_text("native-tls = true\n")
        volumes = [(settings, "/etc/uv/uv.toml")]
        volumes += [(_PIP_SETTINGS, str(_PIP_SETTINGS))] if _PIP_SETTINGS.exists() else []
        return [word for place, at in volumes for word in ("--volume", f"{place}:{at}:ro")]

    def _base(self) -> str:
        """The base image with the authorities that this machine trusts, which a proxy of its own may be among."""
        self._have_base()
        if not self._has(_TRUSTING):
            self._from_folder(_AUTHORITIES, _TRUSTING, "/usr/local/share/ca-certificates/machine.crt", of=BASE)
        return _TRUSTING

    def _have_base(self) -> None:
        if self._has(BASE):
            return
        try:
            self._run("pull", "--quiet", BASE)
        except RuntimeError:
            print(f"images: {BASE} cannot be pulled: making it with debootstrap", file=sys.stderr, flush=True)
            with tempfile.TemporaryDirectory(dir=self.kept) as work:
                root = Path(work) / "root"
                run_to_end(["debootstrap", "--variant=minbase", _SUITE, str(root)])
                # As in the official image (debuerreotype's slim variant): no lists of packages, no manual pages.
                for folder in ("var/cache/apt", "var/lib/apt/lists", "usr/share/man", "usr/share/locale"):
                    shutil.rmtree(root / folder)
                    (root / folder).mkdir()
                self._from_folder(root, BASE, "/")

    def _llama_cpp(self) -> str:
        """The tools that this machine has built, as an image: compiled once for laptop, tests and images."""
        folder = built_folder()
        wanted = f"localhost/llama-cpp:{folder.name.lower()}"
        if not self._has(wanted):
            self._from_folder(folder, wanted, "/llama.cpp")
        return wanted

    def _from_folder(
        self, source: Path, wanted: str, at: str, *, of: str = "scratch", entrypoint: str | None = None
    ) -> None:
        container = self._run("from", "--pull-never", of).strip()
        self._run("copy", "--quiet", container, str(source), at)
        if entrypoint is not None:
            self._run("config", "--entrypoint", f'["{entrypoint}"]', "--user", "65535:65535", container)
        self._run("commit", "--quiet", "--rm", container, wanted)

    def _has(self, name: str) -> bool:
        return bool(self._run("images", "--quiet", "--filter", f"reference={name}").strip())

    def _run(self, *words: str) -> str:
        storage = ["--root", str(self.kept / "buildah"), "--runroot", str(self.kept / "buildah-run")]
        command = ["buildah", *storage, "--storage-driver", "overlay", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"buildah {' '.join(words)} ended with {done.returncode}:\n{done.stderr[-3000:]}")
        return done.stdout


def _is_pushed(name: str) -> bool:
    """Whether the registry has it (OCI distribution specification, checking if content exists in the registry)."""
    repository, tag = name.removeprefix(f"{layout().registry}/").rsplit(":", 1)
    kinds = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"
    url = f"http://{layout().registry}/v2/{repository}/manifests/{tag}"
    return httpx.head(url, headers={"Accept": kinds}, trust_env=False).is_success


def main() -> None:
    """Build and push."""
    builder = Builder(layout().kept)
    for name in sys.argv[1:] or NAMES:
        print(builder.image(name))


if __name__ == "__main__":
    main()
