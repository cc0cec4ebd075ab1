#!/usr/bin/env bash
# Download the jars of docker/jars/pom.xml: Delta, and Hadoop's client for s3a://. 26 MB.
#   docker/jars.sh FOLDER                needs mvn and a JDK; on an error there is no FOLDER
set -euo pipefail

folder=${1:?"usage: docker/jars.sh FOLDER"}
here=$(cd "$(dirname "$0")" && pwd)
[ ! -e "$folder" ] || { echo "error: $folder already exists; remove it, or choose another" >&2; exit 1; }
command -v mvn > /dev/null || { echo "error: there is no mvn; install Maven (Debian and Ubuntu: apt-get install maven)" >&2; exit 1; }

temporary="$folder.tmp"
rm -rf "$temporary"
mvn --quiet --batch-mode --file "$here/jars/pom.xml" dependency:copy-dependencies -DoutputDirectory="$(realpath -m "$temporary")"
mv "$temporary" "$folder"
