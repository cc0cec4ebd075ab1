#!/usr/bin/env bash
# Bake a model into an image: download it into the model cache, from which runs load it without a network.
#   docker/model.sh URI                  org/name@revision, or a folder or object store; nothing to do for "" and embedded
set -euo pipefail

uri=${1:-}
[ -n "$uri" ] && [ "$uri" != embedded ] || exit 0
: "${GLICLASS_SPARK_CACHE:?error: set it to the folder of the cache}"
python3 -c '
import sys
from gliclass_spark.checkpoints.uri import resolve_model
print(f"{sys.argv[1]} is in the image, with the digest {resolve_model(sys.argv[1]).digest}")
' "$uri"
