#!/bin/bash
# What the dispatcher's container runs: a Ray node without CPUs, because a runner (a Ray driver) must run on a node of
# its cluster, and beside it the dispatcher. Whichever ends first ends the container; the engine starts it anew.
set -euo pipefail

# The container is in two networks; workers must find this node at its address in Ray's.
address=$(python - "$MUDMAN_RAY_ADDRESS" <<'PYTHON'
import socket, sys
host, port = sys.argv[1].rsplit(":", 1)
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
    probe.connect((host, int(port)))  # sends nothing, but chooses the way
    print(probe.getsockname()[0])
PYTHON
)

env -u MUDMAN_DATABASE_URL -u MUDMAN_DATABASE_URL_FILE \
    mudman-ray-node --address="$MUDMAN_RAY_ADDRESS" --node-ip-address="$address" --num-cpus=0 --num-gpus=0 &
node=$!
python -m workers dispatcher &
dispatcher=$!

# Being asked to end only wakes the wait. The dispatcher then stops its runners' trials first: Ray must outlive it.
trap : TERM INT
status=0
wait -n "$node" "$dispatcher" || status=$?
kill -TERM "$dispatcher" 2>/dev/null || true
wait "$dispatcher" || true
kill -TERM "$node" 2>/dev/null || true
wait "$node" || true
exit "$status"
