#!/usr/bin/env bash
# Fetches the jars of docker/jars/pom.xml: Delta, and Spark's way to s3://. 26 MB.
#   docker/jars.sh FOLDER                needs mvn and a JDK; FOLDER has all of them, or is not there
set -euo pipefail

folder=${1:?"usage: docker/jars.sh FOLDER"}
here=$(cd "$(dirname "$0")" && pwd)
[ ! -e "$folder" ] || { echo "error: $folder is there already; remove it, or name another" >&2; exit 1; }
command -v mvn > /dev/null || { echo "error: there is no mvn; install Maven (Debian and Ubuntu: apt-get install maven)" >&2; exit 1; }

aside="$folder.partly"
rm -rf "$aside"
mvn --quiet --batch-mode --file "$here/jars/pom.xml" dependency:copy-dependencies -DoutputDirectory="$(realpath -m "$aside")"
mv "$aside" "$folder"
