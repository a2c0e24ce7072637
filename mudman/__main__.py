"""``python -m mudman trial SPEC``: one trial, without any service; ``bench SPEC``: how long trials take here."""

import argparse
import json
import os
import sys
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from mudman import presets, results
from mudman.documents import read_json, read_yaml
from mudman.faults import SpecError
from mudman.registry import source_faults
from mudman.specs import StudySpec, parse


def main(arguments: list[str] | None = None) -> int:
    """Exit codes: 0 valid, 1 the trial ended otherwise, 2 bad input, 130 interrupted."""
    console = Console(stderr=True)
    try:
        options = _parser().parse_args(arguments)
        spec = _read(options.spec, dict(options.set))
        if options.command == "bench":
            return _bench(spec, dict(options.parameter), options)
        result = _run(spec, dict(options.parameter), console)
    except SpecError as error:
        for fault in error.faults:
            console.print(Text(str(fault), style="red"), soft_wrap=True)
        return 2
    except KeyboardInterrupt:
        console.print("interrupted")
        return 130
    if options.json:
        sys.stdout.write(result.model_dump_json(indent=2) + "\n")
    else:
        _show(result, Console())
    return 0 if result.outcome is results.Outcome.VALID else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mudman", description="The torch core of MUDMAN sweeps.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    trial = commands.add_parser("trial", help="run one trial of a study and print its result")
    bench = commands.add_parser("bench", help="say how long a study's trials take on this machine")
    bench.add_argument("--seconds", type=float, default=10.0, help="to run each phase for (default 10)")
    for command in (trial, bench):
        command.add_argument("spec", help="a spec file (YAML or JSON) or the name of a preset")
        command.add_argument(
            "-p", "--parameter", action="append", default=[], type=_assignment, metavar="NAME=VALUE",
            help="value of a searched number, such as unlearning_rate=0.003 or adversary.decay=0.9; "
            "ranges without one take their middle (geometric, where the range is logarithmic)",
        )  # fmt: skip
        command.add_argument("--set", action="append", default=[], type=_override, metavar="PATH=VALUE",
                             help="change the spec first, such as budget.unlearn_passes=60")  # fmt: skip
        command.add_argument("--json", action="store_true", help="print the whole result as JSON")
    return parser


def _assignment(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    try:
        return name, float(value)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=NUMBER") from None


def _override(text: str) -> tuple[str, object]:
    path, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not PATH=VALUE")
    return path, read_yaml(value)


def _read(source: str, overrides: dict[str, object]) -> StudySpec:
    path = Path(source)
    if not path.is_file():
        if path.suffix in (".yaml", ".yml", ".json"):
            raise SpecError.at("", f"there is no file {source}", "correct the path, or name a preset")
        return parse(presets.load(source, overrides))
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError.at("", f"{source} cannot be read: {error}", "give a text file in UTF-8") from None
    document = read_json(text) if path.suffix == ".json" else read_yaml(text)
    return parse(presets.merged(document, overrides) if isinstance(document, dict) else document)


def _bench(spec: StudySpec, chosen: dict[str, float], options: argparse.Namespace) -> int:
    _make_ready(spec)
    from mudman.pace import measured

    pace = measured(spec, _values(spec, chosen), options.seconds)
    rows = {
        "start of a process, s": round(pace.start, 2),
        "pass of unlearning, ms": round(1000 * pace.unlearning, 1),
        "pass of the attack, ms": round(1000 * pace.attack, 1),
        "trial, s": round(pace.trial(spec), 1),
        f"study of {spec.budget.trials} trials, {spec.resources.max_concurrent} at once, min": round(
            pace.study(spec) / 60, 1
        ),
    }
    if options.json:
        sys.stdout.write(json.dumps(rows | {"device": pace.device}, indent=2) + "\n")
        return 0
    table = Table(f"{spec.name}, on {pace.device}", "")
    for what, number in rows.items():
        table.add_row(what, f"{number:g}")
    Console().print(table)
    return 0


def _values(spec: StudySpec, chosen: dict[str, float]) -> dict[str, float]:
    return {name: chosen.get(name, space.middle()) for name, space in spec.search_space().items()} | chosen


def _make_ready(spec: StudySpec) -> None:
    if faults := source_faults(spec):
        raise SpecError(faults)
    for library in ("HF_HUB", "HF_DATASETS"):
        os.environ.setdefault(f"{library}_DISABLE_PROGRESS_BARS", "1")
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()


def _run(spec: StudySpec, chosen: dict[str, float], console: Console) -> results.TrialResult:
    _make_ready(spec)
    from mudman.trial import run_trial

    bar = Progress(TextColumn("{task.description:>8}"), BarColumn(), TextColumn("{task.completed:.0f}/{task.total:.0f} "
                   "passes {task.fields[losses]}"), TimeElapsedColumn(), console=console)  # fmt: skip
    tasks = {}

    def report(progress: results.Progress) -> results.Decision:
        if progress.phase not in tasks:
            tasks[progress.phase] = bar.add_task(progress.phase, total=progress.of, losses="")
        bar.update(tasks[progress.phase], completed=progress.passes)
        if point := progress.point:
            bar.update(
                tasks[progress.phase], losses=f"forget {_nats(point.forget_loss)} retain {_nats(point.retain_loss)}"
            )
        return results.Decision.CONTINUE

    with bar:
        return run_trial(spec, _values(spec, chosen), report)


def _show(result: results.TrialResult, console: Console) -> None:
    table = Table("", "forget loss", "retain loss", title="nats per token")
    for label, forget, retain in (
        ("before", _first(result.unlearning.forget_loss), _first(result.unlearning.retain_loss)),
        ("unlearned", result.forget_loss_unlearned, result.retain_loss_unlearned),
        ("attacked (minimum)", result.forget_loss_min, None),
        ("attacked (final)", result.forget_loss_final, result.retain_loss_final),
    ):
        table.add_row(label, _nats(forget), _nats(retain))
    console.print(table)
    console.print(
        f"outcome {result.outcome}, objective {json.dumps(result.value)}, "
        f"{result.passes_booked} passes booked, {result.passes_made} made, {result.seconds:.1f} s on {result.device}",
        soft_wrap=True,
    )
    if result.fault:
        console.print(Text(f"{result.fault.type}: {result.fault.message}"), soft_wrap=True)


def _first(values: tuple[float | None, ...]) -> float | None:
    return values[0] if values else None


def _nats(loss: float | None) -> str:
    return "-" if loss is None else f"{loss:.4f}"


if __name__ == "__main__":
    sys.exit(main())
