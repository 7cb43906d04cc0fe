#!/usr/bin/env bash
# An MLflow server for sweeps: on loopback, no job runner, artifacts through the server. The driver alone writes to it.
#
#   bash cluster/mlflow_server.sh                      SQLite and artifacts under results/mlflow_server
#   bash cluster/mlflow_server.sh --basic-auth         the same, with names and passwords
#   MLFLOW_BACKEND_STORE_URI=postgresql://mlflow@127.0.0.1/mlflow PGPASSFILE=~/.pgpass bash cluster/mlflow_server.sh
#                                                      PostgreSQL; the password stands in a file of mode 600
#
# PostgreSQL and --basic-auth need: pip install 'vaesweep[server]'. Variables:
#   MLFLOW_SERVER_DIR              folder of what is not elsewhere (results/mlflow_server)
#   MLFLOW_BACKEND_STORE_URI       database of runs (SQLite in that folder)
#   MLFLOW_ARTIFACTS_DESTINATION   shared folder, s3://… or gs://… (artifacts/ in that folder); clients need no access
#   MLFLOW_HOST, MLFLOW_PORT       127.0.0.1 and 5000
#   MLFLOW_WORKERS                 server processes (1); more only on PostgreSQL
#   MLFLOW_SERVER_ALLOWED_HOSTS    MLflow's own: host names under which other machines call it
# and with --basic-auth:
#   MLFLOW_AUTH_ADMIN_PASSWORD_FILE or MLFLOW_AUTH_ADMIN_PASSWORD   needed at the first start only, 12 characters or more
#   MLFLOW_AUTH_CONFIG_PATH        MLflow's own, in place of the file that is written into that folder
set -euo pipefail

refuse() {
    echo "error: $*" >&2
    exit 2
}

basic_auth=false
for word in "$@"; do
    case "$word" in
        --basic-auth) basic_auth=true ;;
        *) refuse "$word: the one option is --basic-auth; all else is set by variables" ;;
    esac
done

folder="${MLFLOW_SERVER_DIR:-results/mlflow_server}"
umask 077
mkdir -p "$folder"
folder="$(cd "$folder" && pwd)"

host="${MLFLOW_HOST:-127.0.0.1}"
port="${MLFLOW_PORT:-5000}"
workers="${MLFLOW_WORKERS:-1}"
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false
export MLFLOW_DISABLE_TELEMETRY="${MLFLOW_DISABLE_TELEMETRY:-true}"
# By the environment: all users of a machine may read its command lines, and a URI may hold a password.
export MLFLOW_BACKEND_STORE_URI="${MLFLOW_BACKEND_STORE_URI:-sqlite:///$folder/mlflow.db}"
# Which driver is meant without its name depends on SQLAlchemy's version.
MLFLOW_BACKEND_STORE_URI="${MLFLOW_BACKEND_STORE_URI/#postgresql:/postgresql+psycopg2:}"
export MLFLOW_ARTIFACTS_DESTINATION="${MLFLOW_ARTIFACTS_DESTINATION:-$folder/artifacts}"
[[ "$workers" =~ ^[1-9][0-9]*$ ]] || refuse "MLFLOW_WORKERS=$workers: give a number of processes, 1 or more"
if [[ "$workers" != 1 && "$MLFLOW_BACKEND_STORE_URI" == sqlite:* ]]; then
    refuse "MLFLOW_WORKERS=$workers: SQLite takes one; set MLFLOW_BACKEND_STORE_URI to a PostgreSQL database"
fi

app=()
if $basic_auth; then
    python -c "import flask_wtf; from mlflow.environment_variables import MLFLOW_AUTH_ADMIN_PASSWORD" 2> /dev/null ||
        refuse "--basic-auth needs MLflow 3.17 or newer with its login: pip install 'vaesweep[server]'"
    if [[ -n "${MLFLOW_AUTH_ADMIN_PASSWORD_FILE:-}" ]]; then
        [[ -r "$MLFLOW_AUTH_ADMIN_PASSWORD_FILE" ]] ||
            refuse "MLFLOW_AUTH_ADMIN_PASSWORD_FILE=$MLFLOW_AUTH_ADMIN_PASSWORD_FILE: there is no such file to read"
        MLFLOW_AUTH_ADMIN_PASSWORD="$(< "$MLFLOW_AUTH_ADMIN_PASSWORD_FILE")"
        export MLFLOW_AUTH_ADMIN_PASSWORD
    fi
    if [[ -z "${MLFLOW_AUTH_CONFIG_PATH:-}" ]]; then
        if [[ ! -e "$folder/users.db" && -z "${MLFLOW_AUTH_ADMIN_PASSWORD:-}" ]]; then
            refuse "the first start with --basic-auth makes the user admin:" \
                "set MLFLOW_AUTH_ADMIN_PASSWORD_FILE to a file with its password"
        fi
        export MLFLOW_AUTH_CONFIG_PATH="$folder/basic_auth.ini"
        # Users see nothing of each other's experiments until they are given a permission.
        [[ -e "$MLFLOW_AUTH_CONFIG_PATH" ]] || printf '%s\n' "[mlflow]" "default_permission = NO_PERMISSIONS" \
            "database_uri = sqlite:///$folder/users.db" "admin_username = admin" > "$MLFLOW_AUTH_CONFIG_PATH"
    fi
    # Signs the forms of the page that makes users; one key for all workers and starts.
    [[ -e "$folder/secret_key" ]] || head -c 32 /dev/urandom | base64 > "$folder/secret_key"
    MLFLOW_FLASK_SERVER_SECRET_KEY="$(< "$folder/secret_key")"
    export MLFLOW_FLASK_SERVER_SECRET_KEY
    app=(--app-name basic-auth)
elif [[ "$host" != 127.* && "$host" != localhost && "$host" != "::1" ]]; then
    echo "warning: whoever reaches $host:$port may read, change and delete all runs; see --basic-auth" >&2
fi

exec mlflow server --workers "$workers" --host "$host" --port "$port" "${app[@]}"
