#!/usr/bin/env bash
# Create the virtual environment of an image, with the versions of constraints.txt.
#   docker/environment.sh FOLDER EXTRAS [JARS]
# FOLDER: the environment can't be moved: its scripts contain the path. EXTRAS: of pyproject.toml, as in spark,registry.
# JARS: the folder that docker/jars.sh created; its jars are copied to Spark's own, so that no run downloads any.
#   PYTHON=python3           the Python interpreter
#   TORCH_BACKEND=auto|cpu   cpu: torch without CUDA, from PyTorch's index; auto: the build of PyPI
set -euo pipefail

usage="usage: docker/environment.sh FOLDER EXTRAS [JARS]"
folder=${1:?"$usage"} extras=${2:?"$usage"} jars=${3:-}
root=$(cd "$(dirname "$0")/.." && pwd)
[ ! -e "$folder" ] || { echo "error: $folder already exists; remove it, or choose another" >&2; exit 1; }
trap '[ $? = 0 ] || rm -rf "$folder"' EXIT

"${PYTHON:-python3}" -m venv "$folder"
python="$folder/bin/python"
"$python" -m pip install --quiet --disable-pip-version-check --no-cache-dir --constraint "$root/constraints.txt" uv
backend=()
[ "${TORCH_BACKEND:-auto}" = auto ] || backend=(--torch-backend "$TORCH_BACKEND")
# Compiled here: the user of an image can't write, so each process would compile torch, MLflow or Airflow for itself.
"$folder/bin/uv" pip install --quiet --no-cache --compile-bytecode --python "$python" "${backend[@]}" \
  --constraint "$root/constraints.txt" --build-constraint "$root/constraints.txt" "$root[$extras]"
# The installers are not needed at run time.
"$folder/bin/uv" pip uninstall --quiet --python "$python" pip setuptools uv
if [ -n "$jars" ]; then
  spark=$("$python" -c 'import importlib.util; print(importlib.util.find_spec("pyspark").submodule_search_locations[0])')
  cp "$jars"/*.jar "$spark/jars/"
fi
"$python" -B -c 'import gliclass_spark'
