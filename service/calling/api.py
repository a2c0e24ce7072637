"""What can be asked of the API, once for both clients (docs/client.md)."""

import json
import time
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import httpx

from service import credentials
from service.calling import frames
from service.calling.calls import Call, Document, Listing, Pause, Steps, StillRunning, Unreachable
from service.calling.endpoint import endpoint, listing
from service.loopback import is_loopback

if TYPE_CHECKING:
    import pandas

FINISHED = ("completed", "failed", "cancelled")


class Api:
    """What can be asked. Its methods answer documents: the JSON that the OpenAPI document describes. Any of them raises
    ``Refused`` where the API refuses, and ``Unreachable`` where nothing answers."""

    def __init__(self, url: str, *, token: str | None, patience: float):
        self.url = url.rstrip("/")
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Unreachable(f"{url!r} is no address. Remedy: give one such as http://127.0.0.1:8080")
        self.patience = patience
        token = token or credentials.find()
        # A proxy of the environment cannot reach the loopback of this machine.
        self._options = {"base_url": self.url, "trust_env": not is_loopback(parts.hostname)}
        self._options |= {"headers": {"Authorization": f"Bearer {token}"} if token else {}}

    @property
    def is_local(self) -> bool:
        """Whether it listens on this machine's loopback."""
        return is_loopback(urlsplit(self.url).hostname or "")

    @endpoint
    def ready(self) -> Call[dict[str, str]]:
        """What the API says of its own readiness: each check with ``ok`` or what is wrong."""
        return Call("GET", "/readyz", read=_checks, any_status=True)

    @endpoint
    def submit(
        self,
        document: Document | str,
        *,
        media_type: str = "application/yaml",
        dry_run: bool = False,
        key: str | None = None,
    ) -> Call[Document]:
        """Post a spec, or ``{"preset": …, "overrides": …}``; a string goes as it stands, as ``media_type``.

        Answers the study, or with ``dry_run`` what it would be. Safe to repeat: ``key`` makes it the same request.
        """
        return self._post("/studies", document, media_type, dry_run, key)

    @listing
    def studies(self, **filters: Any) -> Listing:
        """Every study that matches, newest first."""
        return Listing("/studies", _given(**filters))

    @endpoint
    def study(self, study_id: str) -> Call[Document]:
        return self._ask("GET", f"/studies/{part(study_id)}", repeat=True)

    @endpoint
    def best(self, study_id: str) -> Call[Document]:
        return self._ask("GET", f"/studies/{part(study_id)}/best", repeat=True)

    @listing
    def trials(self, study_id: str, **filters: Any) -> Listing:
        return Listing(f"/studies/{part(study_id)}/trials", _given(**filters))

    @endpoint
    def trial(self, study_id: str, ordinal: int) -> Call[Document]:
        return self._ask("GET", f"/studies/{part(study_id)}/trials/{ordinal}", repeat=True)

    @listing
    def events(self, study_id: str, *, after: int = 0) -> Listing:
        """What happened to the study, the newest last; ``after``: only what follows the event of this number."""
        return Listing(f"/studies/{part(study_id)}/events", {"after": after, "limit": 1000}, key="after")

    @endpoint
    def pause(self, study_id: str) -> Call[Document]:
        return self._ask("POST", f"/studies/{part(study_id)}/pause")

    @endpoint
    def resume(self, study_id: str) -> Call[Document]:
        return self._ask("POST", f"/studies/{part(study_id)}/resume")

    @endpoint
    def cancel(self, study_id: str) -> Call[Document]:
        return self._ask("POST", f"/studies/{part(study_id)}/cancel")

    @endpoint
    def extend(self, study_id: str, trials: int) -> Call[Document]:
        """``trials``: the new total."""
        return self._ask("POST", f"/studies/{part(study_id)}/extend", repeat=True, json={"trials": trials})

    @endpoint
    def retry(
        self, study_id: str, *, outcomes: list[str] | None = None, ordinals: list[int] | None = None
    ) -> Call[Document]:
        """Of the trials that ended for good without counting; None: whatever their outcome, or number."""
        given = _given(outcomes=outcomes, ordinals=ordinals)
        return self._ask("POST", f"/studies/{part(study_id)}/retry", json=given)

    @endpoint
    def enqueue(self, study_id: str, *trials: dict[str, float], key: str | None = None) -> Call[Document]:
        """Chosen hyper-parameters, one mapping per trial; answers what waits in line. Safe to repeat, as ``submit``."""
        headers = {"Idempotency-Key": key or str(uuid.uuid4())}
        path = f"/studies/{part(study_id)}/trials"
        return self._ask("POST", path, repeat=True, headers=headers, json={"trials": list(trials)})

    @endpoint
    def widen(self, study_id: str, *, key: str | None = None, **wanted: Any) -> Call[Document]:
        """A new study with wider ranges; ``wanted``: fields of the request, such as ``ranges``. Safe to repeat."""
        headers = {"Idempotency-Key": key or str(uuid.uuid4())}
        return self._ask("POST", f"/studies/{part(study_id)}/widen", repeat=True, headers=headers, json=wanted)

    @endpoint
    def confirm(self, study_id: str, **wanted: int) -> Call[Document]:
        """A study that runs the ``best`` configurations again on so many fresh ``seeds``. Safe to repeat."""
        return self._ask("POST", f"/studies/{part(study_id)}/confirm", repeat=True, json=wanted)

    @endpoint
    def keep(self, study_id: str, **wanted: Any) -> Call[Document]:
        """A study that runs the ``best``, or these ``trials``, once more to keep their weights. Safe to repeat."""
        return self._ask("POST", f"/studies/{part(study_id)}/checkpoints", repeat=True, json=wanted)

    @endpoint
    def checkpoints(self, study_id: str) -> Call[Document]:
        """Weights that are kept of a study, and the studies that keep them."""
        return self._ask("GET", f"/studies/{part(study_id)}/checkpoints", repeat=True)

    @endpoint
    def statistics(self, study_id: str, *, seed: int | None = None) -> Call[Document]:
        """Means, convergence, saturated ranges and compute; ``seed``: of the bootstrap."""
        wanted = _given(seed=None if seed is None else str(seed))
        return self._ask("GET", f"/studies/{part(study_id)}/statistics", params=wanted, repeat=True)

    @endpoint
    def export(self, study_id: str) -> Call[Document]:
        """The study with every finished attempt, and its statistics, which can be computed again from these."""
        return self._ask("GET", f"/studies/{part(study_id)}/export", repeat=True)

    @endpoint
    def written_export(self, study_id: str, form: str = "csv") -> Call[str]:
        """The same as text: ``json``, or the attempts alone as ``csv``."""
        wanted = {"format": form}
        return self._ask("GET", f"/studies/{part(study_id)}/export", params=wanted, repeat=True, read=_text)

    @endpoint
    def parquet(self, study_id: str) -> Call[bytes]:
        """The attempts as a Parquet file; its metadata holds the study under ``mudman-study``."""
        return self._drawn(f"/studies/{part(study_id)}/export", format="parquet")

    @endpoint
    def export_comparison(self, comparison_id: str) -> Call[Document]:
        """The studies of a comparison as ``export`` gives them, and its table."""
        return self._ask("GET", f"/comparisons/{part(comparison_id)}/export", repeat=True)

    @endpoint
    def figure(self, study_id: str, name: str, form: str = "svg") -> Call[bytes]:
        """``history``, ``slice``, ``importance``, ``curves``, ``dynamics`` or ``times``; ``form``: ``json``, ``svg``,
        ``png`` or ``html``."""
        return self._drawn(f"/studies/{part(study_id)}/figures/{part(name)}", format=form)

    @endpoint
    def comparison_figure(
        self, comparison_id: str, name: str, form: str = "svg", *, reference: str | None = None
    ) -> Call[bytes]:
        """``bars``, ``curves``, ``dynamics`` or ``times``; as ``figure``."""
        path = f"/comparisons/{part(comparison_id)}/figures/{part(name)}"
        return self._drawn(path, **_given(format=form, reference=reference))

    @endpoint
    def delete(self, study_id: str) -> Call[None]:
        return self._ask("DELETE", f"/studies/{part(study_id)}")

    @endpoint
    def compare(
        self,
        document: Document | str,
        *,
        media_type: str = "application/yaml",
        dry_run: bool = False,
        key: str | None = None,
    ) -> Call[Document]:
        """Post a comparison, or a preset that is one; as ``submit`` does."""
        return self._post("/comparisons", document, media_type, dry_run, key)

    @listing
    def comparisons(self, **filters: Any) -> Listing:
        """Every comparison that matches, newest first."""
        return Listing("/comparisons", _given(**filters))

    @endpoint
    def comparison(self, comparison_id: str) -> Call[Document]:
        return self._ask("GET", f"/comparisons/{part(comparison_id)}", repeat=True)

    @endpoint
    def add_variants(self, comparison_id: str, variants: dict[str, Document]) -> Call[Document]:
        """``variants``: dotted overrides of the comparison's base by name. Safe to repeat."""
        return self._ask("POST", f"/comparisons/{part(comparison_id)}/variants", repeat=True, json=variants)

    @endpoint
    def pause_comparison(self, comparison_id: str) -> Call[Document]:
        """Every study of it that runs; ``changes`` of the answer says what became of each. So do the others."""
        return self._ask("POST", f"/comparisons/{part(comparison_id)}/pause")

    @endpoint
    def resume_comparison(self, comparison_id: str) -> Call[Document]:
        return self._ask("POST", f"/comparisons/{part(comparison_id)}/resume")

    @endpoint
    def cancel_comparison(self, comparison_id: str) -> Call[Document]:
        return self._ask("POST", f"/comparisons/{part(comparison_id)}/cancel")

    @endpoint
    def extend_comparison(self, comparison_id: str, trials: int) -> Call[Document]:
        """``trials``: the new total of each study that unlearns."""
        return self._ask("POST", f"/comparisons/{part(comparison_id)}/extend", repeat=True, json={"trials": trials})

    @endpoint
    def retry_comparison(self, comparison_id: str, *, outcomes: list[str] | None = None) -> Call[Document]:
        given = _given(outcomes=outcomes)
        return self._ask("POST", f"/comparisons/{part(comparison_id)}/retry", json=given)

    @endpoint
    def delete_comparison(self, comparison_id: str) -> Call[None]:
        return self._ask("DELETE", f"/comparisons/{part(comparison_id)}")

    @endpoint
    def table(self, comparison_id: str, *, reference: str | None = None, equal: str | None = None) -> Call[Document]:
        """``equal``: every variant at the compute of the one that spent least, in ``trials``, ``passes_booked``,
        ``passes_made``, ``gpu_seconds`` or ``cpu_seconds``."""
        wanted = _given(reference=reference, equal=equal)
        return self._ask("GET", f"/comparisons/{part(comparison_id)}/table", params=wanted, repeat=True)

    @endpoint
    def written_table(
        self, comparison_id: str, form: str, *, reference: str | None = None, equal: str | None = None
    ) -> Call[str]:
        """The table as ``markdown`` or ``csv``."""
        wanted = _given(format=form, reference=reference, equal=equal)
        return self._ask("GET", f"/comparisons/{part(comparison_id)}/table", params=wanted, repeat=True, read=_text)

    @endpoint
    def cluster(self) -> Call[Document]:
        """Nodes, what runs on them, what waits and why, and each owner's standing."""
        return self._ask("GET", "/cluster", repeat=True)

    @endpoint
    def create_token(self, *, owner: str, scope: str = "submit", days: int = 90, note: str = "") -> Call[Document]:
        """For admins. The answer's ``token`` is shown this once."""
        wanted = {"owner": owner, "scope": scope, "days": days, "note": note}
        return self._ask("POST", "/tokens", json=wanted)

    @endpoint
    def tokens(self, owner: str | None = None) -> Call[list[Document]]:
        return self._ask("GET", "/tokens", params=_given(owner=owner), repeat=True, then=lambda answer: answer["items"])

    @endpoint
    def revoke_token(self, token_id: str) -> Call[Document]:
        return self._ask("DELETE", f"/tokens/{part(token_id)}", repeat=True)

    @endpoint
    def audit(self, **filters: Any) -> Call[list[Document]]:
        """Who changed what, and who was refused, newest first; for admins."""
        return self._ask("GET", "/audit", params=_given(**filters), repeat=True, then=lambda answer: answer["items"])

    @endpoint
    def preset(self, name: str) -> Call[Document]:
        """``spec``: the document, to be changed and posted; beside it what it is and its cost."""
        return self._ask("GET", f"/presets/{part(name)}", repeat=True)

    @endpoint
    def presets(self) -> Call[list[Document]]:
        return self._ask("GET", "/presets", repeat=True, then=lambda answer: answer["items"])

    @endpoint
    def wait(self, study_id: str, *, timeout: float | None = None, every: float = 1.0) -> Steps[Document]:
        """The study, once it is completed, failed or cancelled; looked at ``every`` so many seconds. Raises
        ``StillRunning`` after ``timeout`` seconds."""
        return self._wait(f"/studies/{part(study_id)}", f"study {study_id}", timeout, every)

    @endpoint
    def wait_comparison(
        self, comparison_id: str, *, timeout: float | None = None, every: float = 1.0
    ) -> Steps[Document]:
        """As ``wait``, for all studies of a comparison."""
        return self._wait(f"/comparisons/{part(comparison_id)}", f"comparison {comparison_id}", timeout, every)

    @endpoint
    def trials_frame(self, study_id: str) -> Call["pandas.DataFrame"]:
        """Every finished attempt as a row, indexed by ordinal and attempt; ``hyperparameters.NAME`` are columns. Raises
        ``frames.NoPandas``."""
        return self._ask("GET", f"/studies/{part(study_id)}/export", repeat=True, then=frames.trials)

    @endpoint
    def table_frame(self, comparison_id: str, *, reference: str | None = None) -> Call["pandas.DataFrame"]:
        """The table of a comparison, indexed by variant; nested numbers as columns such as ``result.mean``."""
        wanted = _given(reference=reference)
        return self._ask(
            "GET", f"/comparisons/{part(comparison_id)}/table", params=wanted, repeat=True, then=frames.table
        )

    @endpoint
    def curves_frame(self, study_id: str, ordinal: int) -> Call["pandas.DataFrame"]:
        """Both losses of one trial by phase (``unlearning``, ``relearning``) and passes."""
        path = f"/studies/{part(study_id)}/trials/{ordinal}"
        return self._ask("GET", path, repeat=True, then=frames.curves)

    def _post(
        self, path: str, document: Document | str, media_type: str, dry_run: bool, key: str | None
    ) -> Call[Document]:
        if not isinstance(document, str):
            document, media_type = json.dumps(document), "application/json"
        headers = {"Content-Type": media_type, "Idempotency-Key": key or str(uuid.uuid4())}
        parameters = {"dry_run": "true"} if dry_run else {}
        return self._ask("POST", path, repeat=True, content=document.encode(), headers=headers, params=parameters)

    def _drawn(self, path: str, **wanted: str) -> Call[bytes]:
        return self._ask("GET", path, params=wanted, repeat=True, read=lambda answer: answer.content)

    def _ask(
        self,
        method: str,
        path: str,
        *,
        repeat: bool = False,
        read: Callable[[httpx.Response], Any] = httpx.Response.json,
        then: Callable[[Any], Any] | None = None,
        **request: Any,
    ) -> Call[Any]:
        """``repeat``: the request changes nothing, or nothing more the second time. ``read``: takes from an answer what
        is no JSON; ``then``: makes something of it."""
        return Call(method, path, request, repeat, read, then)

    def _wait(self, path: str, what: str, timeout: float | None, every: float) -> Steps[Document]:
        ends = None if timeout is None else time.monotonic() + timeout
        while True:
            found = yield self._ask("GET", path, repeat=True)
            if found["state"] in FINISHED:
                return found
            if ends is not None and time.monotonic() + every > ends:
                raise StillRunning(f"{what} is {found['state']} after {timeout:g} s. Remedy: wait longer, or cancel it")
            yield Pause(every)


def _checks(answer: httpx.Response) -> dict[str, str]:
    try:
        return answer.json()["checks"]
    except (KeyError, TypeError) as error:
        raise ValueError("no answer of ours") from error


def _text(answer: httpx.Response) -> str:
    return answer.text


def _given(**parameters: Any) -> Document:
    return {name: value for name, value in parameters.items() if value is not None}


def part(value: str) -> str:
    """As one part of a path: an id with a slash in it asks for no other resource."""
    return quote(value, safe="") or "%20"
