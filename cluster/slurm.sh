#!/usr/bin/env bash
# One sweep in a Slurm allocation: Ray on all of its nodes, stopped in time, requeued, and going on where it was.
#
#   sbatch cluster/slurm.sh python sweeps/rd_curve_pvae.py --preset laptop --out SHARED/out --storage SHARED/cells
#   sbatch --nodes=4 --gpus-per-node=1 cluster/slurm.sh python … --gpus 0.25 …
#   sbatch --array=0-4 cluster/slurm.sh python … --set seed={task} --out SHARED/seed_{task} --storage SHARED/seed_{task}/cells
#
# Submit from the repository's root, with the project's Python environment active. Options of sbatch before the script's
# name replace the lines below. `{task}` is the number of an array's task. --out and --storage must lie on a file system
# that all nodes share, and so must the home folder, which holds the token of the job's Ray while it runs.
# docs/cluster_slurm.md goes through it.
#SBATCH --job-name=vaesweep
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --mem=32G
#SBATCH --time=12:00:00
#SBATCH --output=%x-%A_%a.out
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=B:USR1@120
set -euo pipefail

if [[ -z "${SLURM_JOB_ID:-}" || $# -eq 0 ]]; then
    echo "usage: sbatch [OPTIONS] cluster/slurm.sh COMMAND …" >&2
    exit 2
fi

command=("${@//\{task\}/${SLURM_ARRAY_TASK_ID:-0}}")
nodes=$SLURM_JOB_NUM_NODES
cpus=${SLURM_CPUS_PER_TASK:-1}
echo "job $SLURM_JOB_ID on $nodes nodes ($SLURM_JOB_NODELIST), start $((${SLURM_RESTART_COUNT:-0} + 1))"

folder=$HOME/.vaesweep-job-$SLURM_JOB_ID # on all nodes; what a killed start of this job has left there goes
rm -rf "$folder"
mkdir -m 700 "$folder"
scratch=$(mktemp -d "${TMPDIR:-/tmp}/ray-$SLURM_JOB_ID-XXXXXX")
ray_processes=()
driver=
told= # the signal that has come

# Wait until Ray is up on so many nodes, five minutes at most; a signal ends it, too.
wait_for_nodes() {
    python - "$1" "${ray_processes[0]}" << 'WAIT' 2>> "$folder/wait.log" &
import logging, os, sys, time
import ray

nodes, head = map(int, sys.argv[1:])
deadline = time.monotonic() + 300
while True:
    try:
        os.kill(head, 0)
    except OSError:
        sys.exit("error: Ray's head has ended")
    try:
        if not ray.is_initialized():
            ray.init(logging_level=logging.CRITICAL, log_to_driver=False)
        alive = sum(node["Alive"] for node in ray.nodes())
        state = f"{alive} have joined"
    except Exception as error:
        alive, state = 0, error
    if alive >= nodes:
        sys.exit(0)
    if time.monotonic() > deadline:
        sys.exit(f"error: Ray is not up on {nodes} nodes after 5 minutes: {state}")
    time.sleep(2)
WAIT
    wait $!
}

# Start Ray on all nodes, and name it in RAY_ADDRESS. Whoever reaches a port of Ray can run code: it asks for a token.
start_ray() {
    export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="$folder/token" RAY_USAGE_STATS_ENABLED=0
    export RAY_grpc_client_keepalive_time_ms=30000 # else a node that is cut off is waited for for 300 s
    (umask 077 && python -c "import secrets; print(secrets.token_hex(32))" > "$RAY_AUTH_TOKEN_PATH")
    # Ports of the job's own, since nodes may be shared with other jobs.
    local port=$((20000 + SLURM_JOB_ID % 4000 * 3))
    local head_node workers address
    head_node=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
    workers=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | tail -n +2 | paste -sd ,)
    address=$(scontrol --oneliner show node "$head_node" | grep -o 'NodeAddr=[^ ]*' | cut -d = -f 2)
    # As a worker resolves it: the node itself may know its own name as 127.0.1.1.
    address=$(srun --nodes=1 --ntasks=1 --nodelist="${workers%%,*}" getent ahostsv4 "$address" | awk 'NR == 1 {print $1}')
    if [[ -z "$address" ]]; then
        echo "error: the other nodes do not know the address of $head_node" >&2
        return 1
    fi

    ray start --head --block --node-ip-address="$address" --port="$port" --ray-client-server-port=$((port + 1)) \
        --dashboard-host=127.0.0.1 --dashboard-port=$((port + 2)) --min-worker-port=0 --max-worker-port=0 \
        --num-cpus="$cpus" --num-gpus="${SLURM_GPUS_ON_NODE:-0}" --temp-dir="$scratch" > "$folder/head.log" 2>&1 &
    ray_processes+=($!)
    export RAY_ADDRESS="$address:$port"
    wait_for_nodes 1 || return 1
    # shellcheck disable=SC2016  # the variables are those of the worker's node
    srun --nodes=$((nodes - 1)) --ntasks=$((nodes - 1)) --cpus-per-task="$cpus" --nodelist="$workers" bash -c '
        trap : TERM
        ray start --block --address="$1" --num-cpus="$2" --num-gpus="${SLURM_GPUS_ON_NODE:-0}" \
            --min-worker-port=0 --max-worker-port=0 &
        wait; wait
        rm -rf "$3"' worker "$RAY_ADDRESS" "$cpus" "$scratch" > "$folder/workers.log" 2>&1 &
    ray_processes+=($!)
    wait_for_nodes "$nodes"
}

stop_ray() {
    trap - EXIT
    if ((${#ray_processes[@]})); then
        kill "${ray_processes[@]}" 2> /dev/null || true
        wait "${ray_processes[@]}" 2> /dev/null || true
    fi
    rm -rf "$folder" "$scratch"
}

# The driver ends with code 130. It loses what was done since the packs' last checkpoints (--checkpoint-every).
# shellcheck disable=SC2317,SC2329  # called by the traps
on_signal() {
    told=$1
    echo "$told: the driver is told to end"
    if [[ -n "$driver" ]]; then kill -TERM "$driver" 2> /dev/null || true; fi
}
trap stop_ray EXIT
trap 'on_signal USR1' USR1 # time is nearly up
trap 'on_signal TERM' TERM # of scancel, or of a preemption; Slurm decides about a requeue

# On one node the command starts a Ray of its own, which listens on 127.0.0.1 only.
if ((nodes > 1)) && ! start_ray && [[ -z "$told" ]]; then
    tail -n 20 "$folder"/*.log >&2
    exit 1
fi

code=130
if [[ -z "$told" ]]; then
    "${command[@]}" &
    driver=$!
    while kill -0 "$driver" 2> /dev/null; do
        wait "$driver" || true # returns when a signal comes, too
    done
    code=0
    wait "$driver" || code=$?
fi
stop_ray
echo "exit code $code"
if [[ "$told" == USR1 ]] && ((code >= 128)); then # ended by it: 130, or killed before it could answer
    echo "to be requeued: the same command goes on from its checkpoints"
    trap '' USR1 TERM # Slurm ends what is left of a job that it requeues
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
