#!/usr/bin/env bash
# A light MLflow server: one worker process, no job runner. Sweeps write to it from the driver alone.
#
#   bash cluster/mlflow_server.sh                      SQLite and artifacts under results/mlflow_server
#   MLFLOW_BACKEND_STORE_URI=postgresql://USER:PASSWORD@HOST/DATABASE bash cluster/mlflow_server.sh
#                                                      PostgreSQL (pip install psycopg2-binary beforehand)
#
# Variables: MLFLOW_SERVER_DIR, MLFLOW_BACKEND_STORE_URI, MLFLOW_ARTIFACTS_DESTINATION, MLFLOW_HOST, MLFLOW_PORT.
# MLFLOW_SERVER_ALLOWED_HOSTS is MLflow's own: the host names under which clients of other machines call it.
# There is no login: keep it on 127.0.0.1 or inside a private network.
set -euo pipefail

folder="${MLFLOW_SERVER_DIR:-results/mlflow_server}"
mkdir -p "$folder"
folder="$(cd "$folder" && pwd)"

export MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false
export MLFLOW_DISABLE_TELEMETRY="${MLFLOW_DISABLE_TELEMETRY:-true}"
# By the environment: all users of a machine may read its command lines, and a URI may hold a password.
export MLFLOW_BACKEND_STORE_URI="${MLFLOW_BACKEND_STORE_URI:-sqlite:///$folder/mlflow.db}"
export MLFLOW_ARTIFACTS_DESTINATION="${MLFLOW_ARTIFACTS_DESTINATION:-$folder/artifacts}"
exec mlflow server \
    --workers 1 \
    --host "${MLFLOW_HOST:-127.0.0.1}" \
    --port "${MLFLOW_PORT:-5000}"
