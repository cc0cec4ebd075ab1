#!/usr/bin/env bash
# Bakes a model into an image: fetches it into the cache of models, where runs find it without a network.
#   docker/model.sh ADDRESS              org/name@revision, or a folder of a store; "" and embedded need nothing
set -euo pipefail

address=${1:-}
[ -n "$address" ] && [ "$address" != embedded ] || exit 0
: "${GLICLASS_SPARK_CACHE:?error: name the folder of the cache}"
python3 -c '
import sys
from gliclass_spark.checkpoints.uri import resolve
found = resolve(sys.argv[1])
print(f"{sys.argv[1]} is in the image, with the digest {found.digest}")
' "$address"
