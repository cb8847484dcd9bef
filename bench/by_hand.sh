#!/bin/bash
# The commands that a careful user types for the work of 'tunesmith run examples/quickstart.yaml' with two types:
# train, merge, convert, imatrix, quantize, perplexities. No checks, no report.
# usage: by_hand.sh MODEL ROWS.JSONL GATE.TXT CALIBRATION.TXT OUT STEPS LLAMA_CPP PYTHON
set -euo pipefail
model=$1 rows=$2 gate=$3 calibration=$4 out=$5 steps=$6 llama=$7 python=$8
mkdir -p "$out"
"$python" "$(dirname "$0")/train_by_hand.py" "$model" "$rows" "$out" "$steps" 2>/dev/null | tee "$out/train.txt"
cp "$model"/tokenizer* "$out/merged/"
"$python" "$llama/convert/convert_hf_to_gguf.py" "$out/merged" --outtype bf16 --outfile "$out/bf16.gguf" >/dev/null 2>&1
"$llama/bin/llama-imatrix" -m "$out/bf16.gguf" -f "$calibration" --parse-special -c 512 -b 2048 --chunks 100 \
  -o "$out/imatrix.gguf" --no-ppl >/dev/null 2>&1
"$llama/bin/llama-perplexity" -m "$out/bf16.gguf" -f "$gate" -c 512 --chunks 40 --kl-divergence-base "$out/logits" >/dev/null 2>&1
for type in Q4_K_M Q8_0; do
  "$llama/bin/llama-quantize" --imatrix "$out/imatrix.gguf" "$out/bf16.gguf" "$out/$type.gguf" "$type" >/dev/null 2>&1
  "$llama/bin/llama-perplexity" -m "$out/$type.gguf" --kl-divergence-base "$out/logits" --kl-divergence 2>/dev/null \
    | grep -E "Mean PPL\(Q\)-PPL\(base\)|Mean    KLD" || true
done
