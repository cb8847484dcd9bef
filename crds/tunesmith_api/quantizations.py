"""Every quantization type that llama-quantize of the pinned llama.cpp can make, and what is known of each."""

from dataclasses import dataclass
from enum import StrEnum


class QuantizationType(StrEnum):
    """The name of a type as llama.cpp's QUANT_OPTIONS spells it (tools/quantize/quantize.cpp)."""

    Q1_0 = "Q1_0"
    Q2_0 = "Q2_0"
    IQ1_S = "IQ1_S"
    IQ1_M = "IQ1_M"
    TQ1_0 = "TQ1_0"
    TQ2_0 = "TQ2_0"
    IQ2_XXS = "IQ2_XXS"
    IQ2_XS = "IQ2_XS"
    IQ2_S = "IQ2_S"
    IQ2_M = "IQ2_M"
    Q2_K_S = "Q2_K_S"
    Q2_K = "Q2_K"
    IQ3_XXS = "IQ3_XXS"
    IQ3_XS = "IQ3_XS"
    IQ3_S = "IQ3_S"
    IQ3_M = "IQ3_M"
    Q3_K_S = "Q3_K_S"
    Q3_K_M = "Q3_K_M"
    Q3_K_L = "Q3_K_L"
    IQ4_XS = "IQ4_XS"
    IQ4_NL = "IQ4_NL"
    MXFP4_MOE = "MXFP4_MOE"
    Q4_0 = "Q4_0"
    Q4_1 = "Q4_1"
    Q4_K_S = "Q4_K_S"
    Q4_K_M = "Q4_K_M"
    Q5_0 = "Q5_0"
    Q5_1 = "Q5_1"
    Q5_K_S = "Q5_K_S"
    Q5_K_M = "Q5_K_M"
    Q6_K = "Q6_K"
    Q8_0 = "Q8_0"
    BF16 = "BF16"
    F16 = "F16"
    F32 = "F32"


@dataclass(frozen=True, slots=True)
class Quantization:
    """What is known of a type before it is made.

    `ftype` is llama.cpp's LLAMA_FTYPE number, the value of ``general.file_type`` in the file. `bits_per_weight` is the
    whole file's size per weight at 8 billion parameters; small models keep relatively more in their embeddings.
    `needs_imatrix`: llama-quantize refuses without one. `gains_from_imatrix`: measurably better with one (P56).
    """

    ftype: int
    bits_per_weight: float
    needs_imatrix: bool = False
    gains_from_imatrix: bool = False


def _plain(ftype: int, bits: float) -> Quantization:
    return Quantization(ftype, bits)


def _gains(ftype: int, bits: float) -> Quantization:
    return Quantization(ftype, bits, gains_from_imatrix=True)


def _needs(ftype: int, bits: float) -> Quantization:
    return Quantization(ftype, bits, needs_imatrix=True, gains_from_imatrix=True)


_T = QuantizationType

# ftype: include/llama.h. Bits per weight: the measured table for Llama 3.1 8B in tools/quantize/README.md where it has
# the type; for Q4_0, Q4_1, Q5_0, Q5_1 the size that llama-quantize's help names for Llama 3 8B; else the block format's
# own bits (ggml/src/ggml-common.h). MXFP4_MOE makes 4.25 bits of experts only and Q8_0 of all else, so of a model
# without experts. needs_imatrix: tensor_requires_imatrix in src/llama-quant.cpp, applied to every tensor type that a
# mix contains (IQ3_XS has IQ3_XXS tensors); tests/unit/test_spec_quantizations.py asks llama-quantize itself.
# gains_from_imatrix: 4 bits and fewer (P56), and 5 bits too, where small models gain: of a tuned SmolLM2-135M, Q5_K_M
# without a matrix had a mean KL divergence of 0.145, and Q4_K_M with one 0.042 (measured); except
# the formats whose functions in ggml/src/ggml-quants.c ignore the matrix (Q1_0, Q2_0, TQ1_0, TQ2_0, MXFP4).
QUANTIZATIONS: dict[QuantizationType, Quantization] = {
    _T.Q1_0: _plain(40, 1.125),
    _T.Q2_0: _plain(41, 2.25),
    _T.IQ1_S: _needs(24, 2.0042),
    _T.IQ1_M: _needs(31, 2.1460),
    _T.TQ1_0: _plain(36, 1.69),
    _T.TQ2_0: _plain(37, 2.06),
    _T.IQ2_XXS: _needs(19, 2.3824),
    _T.IQ2_XS: _needs(20, 2.5882),
    _T.IQ2_S: _needs(28, 2.7403),
    _T.IQ2_M: _needs(29, 2.9294),
    _T.Q2_K_S: _needs(21, 2.9697),
    _T.Q2_K: _gains(10, 3.1593),
    _T.IQ3_XXS: _needs(23, 3.2548),
    _T.IQ3_XS: _needs(22, 3.4977),
    _T.IQ3_S: _gains(26, 3.6606),
    _T.IQ3_M: _gains(27, 3.7628),
    _T.Q3_K_S: _gains(11, 3.6429),
    _T.Q3_K_M: _gains(12, 3.9960),
    _T.Q3_K_L: _gains(13, 4.2979),
    _T.IQ4_XS: _gains(30, 4.4597),
    _T.IQ4_NL: _gains(25, 4.6818),
    _T.MXFP4_MOE: _plain(38, 8.5),
    _T.Q4_0: _gains(2, 4.65),
    _T.Q4_1: _gains(3, 5.1),
    _T.Q4_K_S: _gains(14, 4.6672),
    _T.Q4_K_M: _gains(15, 4.8944),
    _T.Q5_0: _gains(8, 5.57),
    _T.Q5_1: _gains(9, 6.04),
    _T.Q5_K_S: _gains(16, 5.5704),
    _T.Q5_K_M: _gains(17, 5.7036),
    _T.Q6_K: _plain(18, 6.5633),
    _T.Q8_0: _plain(7, 8.5008),
    _T.BF16: _plain(32, 16.0),
    _T.F16: _plain(1, 16.0),
    _T.F32: _plain(0, 32.0),
}

# Names that llama-quantize or people use for something else than a type of its own, and what is meant (P82).
ALIASES: dict[str, QuantizationType] = {
    "Q3_K": _T.Q3_K_M,
    "Q4_K": _T.Q4_K_M,
    "Q5_K": _T.Q5_K_M,
}


def file_name(job: str, quantization: str) -> str:
    """What the GGUF of a type is called in a published folder."""
    return f"{job}-{quantization}.gguf"
