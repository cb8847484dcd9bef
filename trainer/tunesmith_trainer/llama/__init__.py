"""llama.cpp, run and read: one module per tool, and the GGUF file itself."""
