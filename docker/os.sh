#!/usr/bin/env bash
# What an image takes from its distribution, and the user that everything runs as.
#   docker/os.sh [PACKAGE]...            as root, on Debian 12 or Ubuntu 24.04; SIMULATE=1 changes nothing
# Every image has python3 and tini (process 1); Spark's also a JRE without windows, and procps, which its scripts ask.
set -euo pipefail

packages=(ca-certificates python3 tini "$@")
apt-get update --quiet
apt-get install --yes --quiet --no-install-recommends ${SIMULATE:+--simulate} "${packages[@]}"
[ -z "${SIMULATE:-}" ] || exit 0

rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt /var/log/dpkg.log
# A number of its own: Kubernetes' runAsNonRoot believes numbers only.
groupadd --gid 10001 gliclass
useradd --uid 10001 --gid 10001 --create-home --shell /usr/sbin/nologin gliclass
# Volumes that are mounted here are given to their folder's owner when they are new.
install --directory --owner gliclass --group gliclass /var/lib/gliclass /var/lib/gliclass/models \
  /var/lib/gliclass/work /var/lib/gliclass/airflow /var/lib/gliclass/spark
