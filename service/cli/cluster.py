"""``mudman cluster``: who runs what, and why something waits."""

from typing import TYPE_CHECKING

import typer

from service.cli.remote import AsJson, Url, connect

if TYPE_CHECKING:
    from service.client import Document


def register(app: typer.Typer) -> None:
    app.command()(cluster)


def cluster(as_json: AsJson = False, url: Url = None) -> None:
    """Show the nodes, what runs on them, what waits and why, and what each owner holds."""
    from service.cli import display

    with connect(url) as client:
        answer = client.cluster()
    if as_json:
        display.as_json(answer)
    else:
        show(answer)


def show(answer: "Document") -> None:
    """``answer``: of ``GET /cluster``."""
    from service.cli import display

    nodes = {node["id"]: node["host"] for node in answer["nodes"]}
    tables = {
        "nodes": [
            {
                "host": node["host"],
                "address": node["address"],
                "state": _state(node),
                "CPUs used": _of(node, "cpus"),
                "GPUs used": _of(node, "gpus"),
            }
            for node in answer["nodes"]
        ],
        "running": [
            {
                "study": trial["name"],
                "owner": trial["owner"],
                "trial": _trial(trial),
                "host": nodes.get(trial["node"], trial["host"]),
                "device": trial["device"],
                "since (UTC)": _time(trial["since"]),
            }
            for trial in answer["running"]
        ],
        "waiting": [
            {
                "": study["position"],
                "study": study["name"],
                "owner": study["owner"],
                "priority": study["priority"],
                "state": study["state"],
                "why": study["reason"],
            }
            for study in answer["waiting"]
        ],
        "owners": [
            {
                "owner": owner["owner"],
                "weight": f"{owner['weight']:g}",
                "CPUs": _limited(owner, "cpus"),
                "GPUs": _limited(owner, "gpus"),
                "trials": _limited(owner, "trials"),
                "lately": f"{owner['recent']:.0%}",
            }
            for owner in answer["owners"]
        ],
        "dispatchers": [
            {"id": one["id"], "host": one["host"], "seen (UTC)": _time(one["seen_at"])} for one in answer["dispatchers"]
        ],
    }
    for title, rows in tables.items():
        if rows:
            display.line(title, None, json_wanted=False)
            display.rows(rows, json_wanted=False)
        else:
            display.line(f"{title}: none", None, json_wanted=False)


def _trial(running: dict) -> str:
    return "preparing" if running["ordinal"] is None else f"{running['ordinal']}.{running['attempt']}"


def _state(node: dict) -> str:
    if not node["alive"]:
        return f"gone since {_time(node['seen_at'])}"
    quarantine = node["quarantine"]
    return f"in quarantine until {_time(quarantine['until'])}: {quarantine['reason']}" if quarantine else "alive"


def _of(node: dict, kind: str) -> str:
    return f"{node['used'][kind]:g} of {node[kind]:g}"


def _limited(owner: dict, kind: str) -> str:
    limit = owner["quota"][kind]
    return f"{owner['used'][kind]:g}" + ("" if limit is None else f" of {limit:g}")


def _time(moment: str) -> str:
    return moment[:19].replace("T", " ")
