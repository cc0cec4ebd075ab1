#!/usr/bin/env bash
# Makes the virtual environment of a server that is no part of the package: MLflow's, or the demo's store.
#   docker/servers.sh FOLDER mlflow|store        PYTHON=python3
# They have constraints of their own: what AWS's client needs and what the package needs can't be in one environment.
set -euo pipefail

usage="usage: docker/servers.sh FOLDER mlflow|store"
folder=${1:?"$usage"} server=${2:?"$usage"}
here=$(cd "$(dirname "$0")" && pwd)
[ ! -e "$folder" ] || { echo "error: $folder is there already; remove it, or name another" >&2; exit 1; }
[ -f "$here/$server/requirements.txt" ] || { echo "error: there is no server $server; $usage" >&2; exit 1; }
trap '[ $? = 0 ] || rm -rf "$folder"' EXIT

"${PYTHON:-python3}" -m venv "$folder"
"$folder/bin/python" -m pip install --quiet --disable-pip-version-check --no-cache-dir --no-compile \
  --requirement "$here/$server/requirements.txt"
