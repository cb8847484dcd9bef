"""How many windows of a text llama.cpp's tools are given at once."""

# As many tokens as llama.cpp computes at once by default (n_ubatch, common.h). In a larger batch windows stand side by
# side, and each attends over the keys of the others too, only to mask them: with four windows of 512 the same figures
# take 1.15 times as long (SmolLM2-135M, 2 cores).
_BATCH_TOKENS = 512


def batch_tokens(window: int) -> int:
    """Tokens of a batch for windows of `window` tokens: a whole number of windows, as the tools demand (P52)."""
    return window * max(1, _BATCH_TOKENS // window)
