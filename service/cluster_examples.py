"""Example of ``GET /cluster`` in the OpenAPI document. Its numbers are made up."""

CLUSTER = {
    "nodes": [
        {
            "id": "7d1c5b0f2a",
            "host": "gpu-node-1",
            "address": "10.0.0.7",
            "alive": True,
            "cpus": 16.0,
            "gpus": 1.0,
            "used": {"cpus": 1.0, "gpus": 0.5, "trials": 1},
            "quarantine": None,
            "seen_at": "2026-11-21T09:00:35Z",
        }
    ],
    "running": [
        {
            "study": "st_Jb2kSxq0V9tLw3aZ",
            "name": "quickstart-8",
            "owner": "ann",
            "ordinal": 3,
            "attempt": 1,
            "host": "gpu-node-1",
            "node": "7d1c5b0f2a",
            "device": "cuda:0",
            "since": "2026-11-21T09:00:30Z",
        }
    ],
    "waiting": [
        {
            "position": 1,
            "study": "st_w0V9tLw3aZJb2kSx",
            "name": "wide",
            "owner": "bob",
            "priority": 0,
            "state": "queued",
            "max_live": 0,
            "reason": "the cluster is full: ann 1 CPU and 0.5 GPUs in 1 trial",
            "since": "2026-11-21T08:59:00Z",
        }
    ],
    "waiting_total": 1,
    "owners": [
        {
            "owner": "ann",
            "used": {"cpus": 1.0, "gpus": 0.5, "trials": 1},
            "recent": 0.21,
            "weight": 1.0,
            "quota": {"cpus": None, "gpus": None, "trials": None},
        }
    ],
    "dispatchers": [{"id": "control-1-4711-9f3a2c", "host": "control-1", "seen_at": "2026-11-21T09:00:36Z"}],
}
