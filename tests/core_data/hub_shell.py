"""What a user of the test hub types: commands in one process of their own, whose environment names the hub."""

import json
import os
import subprocess
import sys
from pathlib import Path

from hub_server import Hub


class Shell:
    """``mudman`` commands in one process of their own."""

    def __init__(self, hub: Hub, folder: Path):
        environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(folder / "hf"), "HF_HUB_DISABLE_XET": "1",
                       "OMP_NUM_THREADS": "1", "MUDMAN_DATA_ROOT": str(folder)}  # fmt: skip
        for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "HF_HUB_CACHE", "HF_DATASETS_CACHE"):
            environment.pop(name, None)
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("loader.py")],
            env=environment, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def run(self, command: str, spec: dict, *options: str) -> dict:
        file = self.folder / "spec.json"
        file.write_text(json.dumps(spec))
        self.process.stdin.write(json.dumps([command, str(file), *options]) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(20)
        self.process.stdout.close()
