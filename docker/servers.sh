#!/usr/bin/env bash
# Create the virtual environment of a server outside the package: MLflow, or the demo's object store.
#   docker/servers.sh FOLDER mlflow|store        PYTHON=python3
# Their requirements are separate: AWS's client and the package need conflicting versions.
set -euo pipefail

usage="usage: docker/servers.sh FOLDER mlflow|store"
folder=${1:?"$usage"} server=${2:?"$usage"}
here=$(cd "$(dirname "$0")" && pwd)
[ ! -e "$folder" ] || { echo "error: $folder already exists; remove it, or choose another" >&2; exit 1; }
[ -f "$here/$server/requirements.txt" ] || { echo "error: there is no server $server; $usage" >&2; exit 1; }
trap '[ $? = 0 ] || rm -rf "$folder"' EXIT

"${PYTHON:-python3}" -m venv "$folder"
"$folder/bin/python" -m pip install --quiet --disable-pip-version-check --no-cache-dir --no-compile \
  --requirement "$here/$server/requirements.txt"
