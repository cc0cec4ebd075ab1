#!/usr/bin/env bash
# Tells Spark this machine's GPUs, as {"name":"gpu","addresses":["0","1"]}. Spark runs it where an
# executor (or a standalone worker) starts; a GPU's address is its number in nvidia-smi.
set -euo pipefail

numbers=$(nvidia-smi --query-gpu=index --format=csv,noheader)
# Nothing but numbers gets through: a message of nvidia-smi's is no GPU.
awk '
  BEGIN { printf "{\"name\":\"gpu\",\"addresses\":[" }
  $1 ~ /^[0-9]+$/ { printf "%s\"%s\"", separator, $1; separator = "," }
  END { print "]}" }
' <<<"$numbers"
