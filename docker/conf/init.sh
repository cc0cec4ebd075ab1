#!/usr/bin/env bash
# Initialize a new stack. Each step keeps what exists.
set -euo pipefail

airflow db migrate
airflow pools list --output plain | grep -q '^gpu ' || airflow pools set gpu 1 "jobs that load a model"
python3 -c 'from gliclass_spark.demo.package_documents import write_documents; write_documents("s3://lake/documents")'
gliclass-spark models corpus >/dev/null 2>&1 || gliclass-spark register corpus embedded
