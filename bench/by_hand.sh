#!/bin/bash
# The commands that a careful user types for the work of 'tunesmith run examples/quickstart.yaml' with two types:
# train, merge, convert, imatrix, quantize, perplexities. No checks but that each file was made, no report.
# usage: by_hand.sh MODEL ROWS.JSONL GATE.TXT CALIBRATION.TXT OUT LLAMA_CPP PYTHON TRAIN.PY WINDOWS WINDOWS NUMBERS...
# WINDOWS are those of the importance matrix and of the perplexities, NUMBERS the last arguments of TRAIN.PY. What the
# tools say goes into OUT/log.
set -euo pipefail
model=$1 rows=$2 gate=$3 calibration=$4 out=$5 llama=$6 python=$7 train=$8
shift 8
calibrated=$1 measured=$2
shift 2
mkdir -p "$out"
log=$out/log
trap 'tail -n 20 "$log" >&2' ERR

made() {  # llama.cpp's tools end with 0 on several failures
  for file in "$@"; do
    [ -s "$file" ] || { echo "by_hand.sh: $file was not made" | tee -a "$log" >&2; return 1; }
  done
}

"$python" "$train" "$model" "$rows" "$out" "$@" 2>>"$log" | tee -a "$log" | grep "tokens per second" >"$out/speed.txt"
made "$out/adapter/adapter_model.safetensors" "$out/merged/model.safetensors"
cp "$model"/tokenizer* "$out/merged/"
"$python" "$llama/convert/convert_hf_to_gguf.py" "$out/merged" --outtype bf16 --outfile "$out/bf16.gguf" >>"$log" 2>&1
made "$out/bf16.gguf"
"$llama/bin/llama-imatrix" -m "$out/bf16.gguf" -f "$calibration" --parse-special -c 512 -b 2048 --chunks "$calibrated" \
  -o "$out/imatrix.gguf" --no-ppl >>"$log" 2>&1
"$llama/bin/llama-perplexity" -m "$out/bf16.gguf" -f "$gate" -c 512 --chunks "$measured" \
  --kl-divergence-base "$out/logits" >>"$log" 2>&1
made "$out/imatrix.gguf" "$out/logits"
for type in Q4_K_M Q8_0; do
  "$llama/bin/llama-quantize" --imatrix "$out/imatrix.gguf" "$out/bf16.gguf" "$out/$type.gguf" "$type" >>"$log" 2>&1
  made "$out/$type.gguf"
  "$llama/bin/llama-perplexity" -m "$out/$type.gguf" --kl-divergence-base "$out/logits" --kl-divergence 2>>"$log" \
    | tee -a "$log" | grep -E "Mean PPL\(Q\)-PPL\(base\)|Mean    KLD" >"$out/$type.txt"
done
