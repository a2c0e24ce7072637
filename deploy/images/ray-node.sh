#!/bin/bash
# A node of the Ray cluster, in the foreground; ends when its raylet ends. Arguments go to `ray start`.
set -euo pipefail

# What an earlier life of this container left there (sockets, sessions) would get in the way of this one.
rm -rf /tmp/ray

# The object store is small: trials exchange dictionaries, and Ray's own default, 30 % of the memory, is for data sets.
# Its place is /dev/shm, which must be larger.
exec ray start --block --disable-usage-stats --object-store-memory=200000000 "$@"
