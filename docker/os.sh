#!/usr/bin/env bash
# Install the packages of the distribution, and create the user of all processes.
#   docker/os.sh [PACKAGE]...            as root, on Debian 12 or Ubuntu 24.04; SIMULATE=1 changes nothing
# Every image has python3 and tini (process 1); Spark's images also a headless JRE, and procps for Spark's scripts.
set -euo pipefail

packages=(ca-certificates python3 tini "$@")
apt-get update --quiet
apt-get install --yes --quiet --no-install-recommends ${SIMULATE:+--simulate} "${packages[@]}"
[ -z "${SIMULATE:-}" ] || exit 0

rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt /var/log/dpkg.log
# A fixed uid: Kubernetes' runAsNonRoot checks numbers only.
groupadd --gid 10001 gliclass
useradd --uid 10001 --gid 10001 --create-home --shell /usr/sbin/nologin gliclass
# A new volume gets the owner of the folder on which it is mounted.
install --directory --owner gliclass --group gliclass /var/lib/gliclass /var/lib/gliclass/models \
  /var/lib/gliclass/work /var/lib/gliclass/airflow /var/lib/gliclass/spark
