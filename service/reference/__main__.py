"""``python -m service.reference FOLDER`` (`make reference`): write every page of the reference there."""

import argparse
from pathlib import Path

from service.reference.pages import pages


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m service.reference", description=__doc__.partition(": ")[2])
    parser.add_argument("folder", type=Path, help="docs/reference")
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (folder / name).write_text(text, "utf-8")


if __name__ == "__main__":
    main()
