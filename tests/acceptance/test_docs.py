"""Every command in the documentation works: each is run by a shell, as it stands, against one running system.

What is *not* run is listed here with the reason, and is checked otherwise. Studies are made small: fewer trials and
passes, and, but for those of the tutorial, simulated trials. That, and the words that a reader replaces too, is all
that is changed in a command.
"""

import os
import re
import shlex
import signal
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
import documented
import pytest
from documented import ROOT, Command
from embedded_system import MUDMAN, System, simulated
from ruamel.yaml import YAML
from typer.main import get_command

from service.cli import app
from service.client import Client

FILES = [path for path in documented.files() if documented.commands(path)]
WITH_A_MODEL = "docs/tutorial.md"
"""Its studies run with a packaged model, as single trials (`mudman trial`) and dry runs do everywhere. All others are
simulated: models are loaded in seconds, by each worker of each study."""
SMALL = "--set budget.trials=4 --set budget.unlearn_passes=60 --set attack.passes=20 --set resources.max_concurrent=1"
"""Of 60 passes every method makes whole loops. What a command says itself comes later, and holds."""
SIMULATED = "--set model.id=simulated"
pytestmark = pytest.mark.timeout(900)  # on a machine with other work


# --------------------------------------------------------------------------------------- what is not run, and why not


def _target(command: str) -> None:
    """``make`` knows it."""
    done = subprocess.run(["make", "-n", *command.split()[1:]], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def _files_are_there(command: str) -> None:
    """What it names of this repository is there, and each manifest and compose file can be read."""
    for word in re.findall(r"(?:deploy/|docker-compose)[\w./-]*", command):
        path = ROOT / word
        assert path.exists(), word
        for file in [path] if path.is_file() else list(path.glob("*.yaml")):
            if file.suffix in (".yaml", ".yml"):
                assert list(YAML(typ="safe").load_all(file.read_text("utf-8"))), file


def _can_be_read(command: str) -> None:
    """The command line takes it as it stands."""
    text = re.split(r"\s+#", command, maxsplit=1)[0]
    _, name, *words = shlex.split(text[text.index("mudman ") :].partition(" | ")[0])
    found = get_command(app)
    context = click.Context(found)
    while isinstance(found := found.get_command(context, name), click.Group):
        name, *words = words
    assert found is not None, name
    found.make_context(name, words)


ELSEWHERE: list[tuple[str, str, Callable[[str], None]]] = [
    (r"make (demo|up)\b", "a whole system of its own: test_demo.py and test_cli.py start those", _target),
    (r"make \w", "takes minutes, or is what runs this", _target),
    (
        r".*\bdocker (compose|swarm|network)\b",
        "needs a container engine: test_compose.py, where there is one",
        _files_are_there,
    ),
    (
        r"mudman (pull|submit study.yaml --model)\b",
        "needs a model of one's own, or a study with one: test_cli.py takes these three commands",
        _can_be_read,
    ),
    (
        r"(MUDMAN_ACCESS=\w+ mudman up|mudman token|mudman audit|export MUDMAN_URL)\b",
        "needs a system that asks for tokens: test_access.py starts one",
        lambda command: None if command.startswith("export") else _can_be_read(command),
    ),
    (r"kubectl\b", "needs a cluster: tests/unit/deploy/test_kubernetes.py checks the manifests", _files_are_there),
    (r"(git clone|git pull|hf download|pip install)\b", "needs the internet", lambda command: None),
]


def elsewhere(command: Command) -> tuple[str, Callable[[str], None]] | None:
    return next(((why, check) for form, why, check in ELSEWHERE if re.match(form, command.text)), None)


# ------------------------------------------------------------------------------------------------------ what is run


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """A folder that looks like the repository's root to a reader, and keeps what commands write."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("README.md", "Makefile", "docker-compose.yml", "deploy", "docs", "mudman", "service", "tests"):
        (folder / name).symlink_to(ROOT / name)
    return folder


@pytest.fixture(scope="module")
def told(checkout: Path) -> Iterator[dict[str, list[str]]]:
    """What went wrong, by document: all of them are followed at the same time, as by several readers."""
    system = System()
    process = system.start("up", data_root=checkout)
    try:
        address = system.endpoint(process).url
        with Client(address) as client:
            ids = {
                "PRESET": "ablations-smol-python-small",
                "ID": client.submit(simulated("documented", seconds=0, trials=12))["id"],
            }
            ids["STUDY"] = ids["ID"]
            system.wait(lambda: client.study(ids["ID"])["state"] == "completed", 120)
        environment = {
            **system.environment(),
            "PATH": f"{Path(MUDMAN).parent}{os.pathsep}{os.environ['PATH']}",
            "MUDMAN_SECRETS": str(checkout / "secrets"),
            "MUDMAN_DATA_ROOT": str(checkout),
        }

        def follow(path: Path) -> list[str]:
            return [wrong for command in documented.commands(path) if (wrong := _wrong(command))]

        def _wrong(command: Command) -> str | None:
            if elsewhere(command):
                return None
            text = _put_in(command, ids, address)
            done = subprocess.run(
                ["bash", "-o", "pipefail", "-c", text],
                cwd=checkout,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
            )
            fine = (0, 28) if "--max-time" in text else (0,)
            return None if done.returncode in fine else f"{command}\n{text}\n{done.stdout}{done.stderr}"

        longest_first = sorted(FILES, key=lambda path: not str(path).endswith(WITH_A_MODEL))
        with ThreadPoolExecutor(3) as pool:
            yield dict(zip(map(str, longest_first), pool.map(follow, longest_first), strict=True))
        process.send_signal(signal.SIGINT)
        process.wait(60)
    finally:
        system.close()


def _put_in(command: Command, ids: dict[str, str], address: str) -> str:
    text = command.text
    for word, value in ids.items():
        text = re.sub(rf"\b{word}\b", value, text)
    text = re.sub(r"(http://)?(localhost|127\.0\.0\.1):8080", address, text)
    text = text.replace("curl -N", "curl -N --max-time 2")  # a stream goes on for ever
    text = text.replace('"overrides": {', '"overrides": {"model.id": "simulated", ')
    text = re.sub(r"(mudman bench \S+)", r"\1 --seconds 1", text)
    if "--dry-run" in text or not re.match(r"mudman (submit|compare|trial) ", text):
        return text
    text = re.split(r"\s+#", text, maxsplit=1)[0]
    simulated = "" if command.file == WITH_A_MODEL or "mudman trial" in text else SIMULATED
    return re.sub(r"(mudman \w+ \S+)", rf"\1 {SMALL}", text) + f" {simulated}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_of_a_document_works(told, path: Path):
    assert told[str(path)] == []


def test_what_is_not_run_is_checked_otherwise():
    """And no exception is listed that nothing needs."""
    used = set()
    for path in FILES:
        for command in documented.commands(path):
            if found := elsewhere(command):
                why, check = found
                check(command.text)
                used.add(why)
    needless = {why for _, why, _ in ELSEWHERE} - used
    assert needless <= {"needs the internet"}


def test_every_document_can_be_found_from_the_index():
    index = (ROOT / "docs" / "README.md").read_text("utf-8")
    for path in ROOT.glob("docs/**/*.md"):
        name = str(path.relative_to(ROOT / "docs"))
        assert name == "README.md" or f"({name})" in index, name


def test_links_between_documents_lead_somewhere():
    for path in documented.files():
        text = re.sub(r"```.*?```", "", path.read_text("utf-8"), flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
            if "://" not in target:
                assert (path.parent / target).exists(), f"{path.relative_to(ROOT)}: {target}"


def test_the_commands_that_prose_names_are_there():
    """``mudman NAME`` between backticks is a command of the command line."""
    listed = subprocess.run([MUDMAN, "--help"], capture_output=True, text=True).stdout
    known = set(re.findall(r"^  ([a-z-]+)  ", listed, re.MULTILINE))
    assert "submit" in known
    for path in documented.files():
        for name in re.findall(r"`mudman ([a-z-]+)", path.read_text("utf-8")):
            assert name in known, f"{path.relative_to(ROOT)}: mudman {name}"
