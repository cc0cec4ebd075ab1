#!/usr/bin/env bash
# Prints this machine's GPUs for Spark, as {"name":"gpu","addresses":["0","1"]}. Spark runs it where an
# executor (or a standalone worker) starts; a GPU's address is its number in nvidia-smi.
set -euo pipefail

numbers=$(nvidia-smi --query-gpu=index --format=csv,noheader)
# Print numbers only: nvidia-smi also writes messages.
awk '
  BEGIN { printf "{\"name\":\"gpu\",\"addresses\":[" }
  $1 ~ /^[0-9]+$/ { printf "%s\"%s\"", separator, $1; separator = "," }
  END { print "]}" }
' <<<"$numbers"
