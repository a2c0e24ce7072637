"""``python -m workers dispatcher | runner | observer | up | demo``: each part is imported only when it is run."""

import importlib
import sys

_PARTS = {
    "dispatcher": "workers.dispatcher",
    "runner": "workers.runner",
    "observer": "workers.observer",
    "up": "workers.embedded.up",
    "demo": "workers.embedded.demo",
}


def main(argv: list[str]) -> int:
    if not argv or argv[0] not in _PARTS:
        sys.stderr.write(f"usage: python -m workers {{{' | '.join(_PARTS)}}} [options]\n")
        return 2
    return importlib.import_module(_PARTS[argv[0]]).main(argv[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
