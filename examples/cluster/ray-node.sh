#!/usr/bin/env bash
# One machine of a Ray cluster, in the foreground until it is stopped:
#
#   ray-node.sh head                   on the first machine
#   ray-node.sh worker HOST:PORT       on every other one
#
# Further arguments are passed to `ray start`, for instance --num-gpus=4. All machines and the driver need the same
# token: RAY_AUTH_TOKEN, or RAY_AUTH_TOKEN_PATH, or the file ~/.ray/auth_token.
set -euo pipefail

if [[ -z "${RAY_AUTH_TOKEN:-}" && ! -s "${RAY_AUTH_TOKEN_PATH:-$HOME/.ray/auth_token}" ]]; then
  echo "no token: set RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH, the same on all machines" >&2
  exit 2
fi
export RAY_AUTH_MODE=token

case "${1:-}" in
  head)
    shift
    # No dashboard is needed; dimoo-batch status shows a run's progress.
    exec ray start --head --block --port="${RAY_PORT:-6379}" --include-dashboard=false --disable-usage-stats "$@"
    ;;
  worker)
    address="${2:?the address of the head is missing, HOST:PORT}"
    shift 2
    exec ray start --address="$address" --block --disable-usage-stats "$@"
    ;;
  *)
    echo "usage: ray-node.sh head | worker HOST:PORT [OPTIONS OF ray start]" >&2
    exit 2
    ;;
esac
