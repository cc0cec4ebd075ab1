#!/usr/bin/env bash
# PostgreSQL's image runs it once, when its folder is new: a database for Airflow, and one for MLflow.
set -euo pipefail

for name in airflow mlflow; do
  variable="${name^^}_DB_PASSWORD"
  [ -n "${!variable:-}" ] || { echo "error: the environment variable $variable is missing" >&2; exit 1; }
  # psql quotes what :"name" and :'word' stand for.
  psql --set ON_ERROR_STOP=1 --set name="$name" --set word="${!variable}" --username "${POSTGRES_USER:-postgres}" <<'SQL'
CREATE ROLE :"name" LOGIN PASSWORD :'word';
CREATE DATABASE :"name" OWNER :"name";
SQL
done
