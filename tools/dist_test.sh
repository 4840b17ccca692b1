#!/usr/bin/env bash
# dist_test.sh CONFIG CHECKPOINT GPUS [options of test.py]: test with one process per GPU, or with as many
# processes on a machine without GPUs. NNODES, NODE_RANK, MASTER_ADDR and PORT are for several machines.
set -euo pipefail
if (( $# < 3 )); then sed -n '2,3s/^# //p' "$0" >&2; exit 2; fi
config=$1 checkpoint=$2 gpus=$3; shift 3
exec ${PYTHON:-python} -m torch.distributed.run \
  --nnodes="${NNODES:-1}" --node-rank="${NODE_RANK:-0}" --nproc-per-node="$gpus" \
  --master-addr="${MASTER_ADDR:-127.0.0.1}" --master-port="${PORT:-29500}" \
  "$(dirname "$0")/test.py" "$config" "$checkpoint" --launcher pytorch "$@"
