"""Why a stage can fail: one table from class to exit code, retry verdict and hint (contract 10 of the design).

A stage's exit code, the operator's ``podFailurePolicy`` and docs/errors.md are all derived from `FAILURES`.
"""

from dataclasses import dataclass
from enum import StrEnum


class FailureClass(StrEnum):
    """The machine-readable reason of a failure; stable, documented, alertable."""

    SPEC_INVALID = "SpecInvalid"
    SECRET_MISSING = "SecretMissing"  # noqa: S105  # the word for its absence
    SOURCE_UNAVAILABLE = "SourceUnavailable"
    SOURCE_ABSENT = "SourceAbsent"
    ACCESS_DENIED = "AccessDenied"
    MODEL_INVALID = "ModelInvalid"
    DATASET_INVALID = "DatasetInvalid"
    DATASET_TOO_SMALL = "DatasetTooSmall"
    DOES_NOT_FIT = "DoesNotFit"
    CONVERSION_UNSUPPORTED = "ConversionUnsupported"
    CONVERSION_INVALID = "ConversionInvalid"
    TOOLS_MISSING = "ToolsMissing"
    OUT_OF_MEMORY_GPU = "OutOfMemoryGPU"
    OUT_OF_MEMORY = "OutOfMemory"
    DISK_FULL = "DiskFull"
    STORE_UNAVAILABLE = "StoreUnavailable"
    STORE_FULL = "StoreFull"
    ARTIFACT_CORRUPT = "ArtifactCorrupt"
    TRAINING_DIVERGED = "TrainingDiverged"
    MERGE_INVALID = "MergeInvalid"
    GATE_FAILED = "GateFailed"
    IMAGE_PULL = "ImagePull"
    UNSCHEDULABLE = "Unschedulable"
    QUOTA_EXCEEDED = "QuotaExceeded"
    EVICTED = "Evicted"
    INTERRUPTED = "Interrupted"
    DEADLINE = "Deadline"
    INTERNAL = "Internal"


@dataclass(frozen=True, slots=True)
class FailureRule:
    """What follows from a class: the stage's exit code, whether running it again can help, and what a person can do."""

    exit_code: int
    retry_helps: bool
    hint: str


def _rules(*rows: tuple[FailureClass, int, bool, str]) -> dict[FailureClass, FailureRule]:
    return {name: FailureRule(code, retry, hint) for name, code, retry, hint in rows}


# Exit codes 10 to 37: above what Python (1), Typer (2) and llama.cpp's tools use themselves, and below 126,
# from where shells and container runtimes give codes a meaning of their own (POSIX sh, 2.8.2).
FAILURES: dict[FailureClass, FailureRule] = _rules(
    (FailureClass.SPEC_INVALID, 10, False, "Correct the named field of the manifest."),
    (FailureClass.SECRET_MISSING, 11, False, "Create the named Secret with the named keys (locally: a folder)."),
    (FailureClass.SOURCE_UNAVAILABLE, 12, True, "Check the address, and that it is reached from where the job runs."),
    (FailureClass.SOURCE_ABSENT, 37, False, "Correct the source, or put there what it names."),
    (
        FailureClass.ACCESS_DENIED,
        13,
        False,
        "Check the credentials, and that the licence of a gated model is accepted.",
    ),
    (FailureClass.MODEL_INVALID, 14, False, "Use a causal language model with safetensors weights and a tokenizer."),
    (FailureClass.DATASET_INVALID, 15, False, "Correct the named rows, or set spec.onInvalidRows: Drop."),
    (FailureClass.DATASET_TOO_SMALL, 16, False, "Add rows, or lower spec.evaluation.percent."),
    (
        FailureClass.DOES_NOT_FIT,
        17,
        False,
        "Choose a smaller model, length or batch, or a machine with more memory or disk.",
    ),
    (FailureClass.CONVERSION_UNSUPPORTED, 18, False, "llama.cpp cannot convert this model: choose a supported family."),
    (
        FailureClass.CONVERSION_INVALID,
        19,
        False,
        "The GGUF differs from the model it was made of; report this with the log.",
    ),
    (FailureClass.TOOLS_MISSING, 20, False, "Run 'tunesmith doctor'; it says what is missing and how to get it."),
    (FailureClass.OUT_OF_MEMORY_GPU, 21, True, "Use QLoRA, a shorter maxSequenceLength or a smaller batchSize."),
    (FailureClass.OUT_OF_MEMORY, 22, True, "Give the stage more memory, or use a smaller model, length or batch."),
    (
        FailureClass.DISK_FULL,
        23,
        True,
        (
            "Free disk space, in a cluster give the stage more (spec.stages, ephemeral-storage); 'tunesmith plan' says "
            "how much the job needs."
        ),
    ),
    (
        FailureClass.STORE_UNAVAILABLE,
        24,
        True,
        "Check the store's address, and that it is reached from where the job runs.",
    ),
    (FailureClass.STORE_FULL, 25, True, "Free space in the store; 'tunesmith gc' removes what nothing refers to."),
    (
        FailureClass.ARTIFACT_CORRUPT,
        26,
        True,
        "The named artifact is made again; check the store's disk if this repeats.",
    ),
    (FailureClass.TRAINING_DIVERGED, 27, False, "Lower training.learningRate or look for broken rows in the dataset."),
    (
        FailureClass.MERGE_INVALID,
        28,
        False,
        "The merged model differs from base and adapter; report this with the log.",
    ),
    (
        FailureClass.GATE_FAILED,
        29,
        False,
        "Choose a larger quantization, train longer, or relax the gate that the report names.",
    ),
    (FailureClass.IMAGE_PULL, 30, True, "Check the image's name, its registry and the pull secrets."),
    (
        FailureClass.UNSCHEDULABLE,
        31,
        True,
        (
            "No node fits: check resources, node selector, taints and GPU; on one machine check the GPU's driver, or "
            "leave out training.gpu."
        ),
    ),
    (FailureClass.QUOTA_EXCEEDED, 32, True, "Wait for quota, or ask for more."),
    (FailureClass.EVICTED, 33, True, "The node took the pod away; it is started again."),
    (FailureClass.INTERRUPTED, 34, True, "Run the same command again: it goes on from where it was."),
    (FailureClass.DEADLINE, 35, False, "Raise spec.activeDeadlineSeconds."),
    (FailureClass.INTERNAL, 36, True, "This is a defect of Tunesmith; please report it with the log."),
)


class StageFailure(Exception):
    """A classified failure: what is wrong, where, and what to do.

    `message` says what is wrong and where, in one or two sentences and without secrets; `hint` what would help
    (default: the class's own). `artifact` is the (kind, key) of an input that was found corrupt or absent.
    """

    def __init__(
        self,
        failure: FailureClass,
        message: str,
        hint: str | None = None,
        artifact: tuple[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.failure = failure
        self.message = message
        self.hint = FAILURES[failure].hint if hint is None else hint
        self.artifact = artifact

    @property
    def exit_code(self) -> int:
        return FAILURES[self.failure].exit_code
