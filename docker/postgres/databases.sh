#!/usr/bin/env bash
# Create the databases of Airflow and MLflow. PostgreSQL's image runs this once, when its folder is new.
set -euo pipefail

for name in airflow mlflow; do
  variable="${name^^}_DB_PASSWORD"
  [ -n "${!variable:-}" ] || { echo "error: the environment variable $variable is missing" >&2; exit 1; }
  # psql quotes :"name" as an identifier and :'password' as a literal.
  psql --set ON_ERROR_STOP=1 --set name="$name" --set password="${!variable}" --username "${POSTGRES_USER:-postgres}" <<'SQL'
CREATE ROLE :"name" LOGIN PASSWORD :'password';
CREATE DATABASE :"name" OWNER :"name";
SQL
done
