"""Client of the REST API: synchronous, small, with errors that a person can act on."""

import ipaddress
import itertools
import json
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from mudman.faults import MudmanError
from service import server_sent

Document = dict[str, Any]
"""A JSON object of the API; its fields are described by the API's own OpenAPI document."""

_AGAIN = {502, 503, 504}
_PAUSES = (0.2, 0.5, 1.0, 2.0)


class Unreachable(MudmanError):
    """Nothing answers at the address, or what answers is no mudman API."""


class Refused(MudmanError):
    """The API answered with a problem document (RFC 9457)."""

    def __init__(self, status: int, problem: Document):
        self.status = status
        self.problem = problem
        lines = [str(problem.get("detail") or problem.get("title") or f"HTTP status {status}")]
        for fault in problem.get("errors") or []:
            lines.append(
                f"{fault.get('path') or 'the document'}: {fault.get('detail')}. Remedy: {fault.get('remedy')}."
            )
        super().__init__("\n".join(lines))


class Client:
    """``patience``: seconds for which requests that may be repeated are tried again while nothing answers."""

    def __init__(self, url: str, *, timeout: float = 30.0, patience: float = 1.0):
        self.url = url.rstrip("/")
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Unreachable(f"{url!r} is no address. Remedy: give one such as http://127.0.0.1:8080")
        self.patience = patience
        # A proxy of the environment cannot reach the loopback of this machine.
        self._http = httpx.Client(base_url=self.url, timeout=timeout, trust_env=not _is_loopback(parts.hostname))

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *exception: object) -> None:
        self._http.close()

    def ready(self) -> dict[str, str]:
        """What the API says of its own readiness: each check with ``ok`` or what is wrong."""
        try:
            return self._http.get("/readyz").json()["checks"]
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error
        except (ValueError, KeyError, TypeError):
            raise Unreachable(f"what answers at {self.url} is no mudman API. Remedy: correct the address") from None

    def submit(
        self,
        document: Document | str,
        *,
        media_type: str = "application/yaml",
        dry_run: bool = False,
        key: str | None = None,
    ) -> Document:
        """Post a spec, or ``{"preset": …, "overrides": …}``; a string goes as it stands, as ``media_type``.

        Answers the study, or with ``dry_run`` what it would be. Safe to repeat: ``key`` makes it the same request.
        """
        return self._post("/studies", document, media_type, dry_run, key)

    def studies(self, **filters: Any) -> Iterator[Document]:
        """Every study that matches, newest first."""
        return self._pages("/studies", filters)

    def study(self, study_id: str) -> Document:
        return self._ask("GET", f"/studies/{_part(study_id)}", repeat=True)

    def best(self, study_id: str) -> Document:
        return self._ask("GET", f"/studies/{_part(study_id)}/best", repeat=True)

    def trials(self, study_id: str, **filters: Any) -> Iterator[Document]:
        return self._pages(f"/studies/{_part(study_id)}/trials", filters)

    def trial(self, study_id: str, ordinal: int) -> Document:
        return self._ask("GET", f"/studies/{_part(study_id)}/trials/{ordinal}", repeat=True)

    def events(self, study_id: str, *, after: int = 0) -> Iterator[Document]:
        """What happened to the study, the newest last; ``after``: only what follows the event of this number."""
        place: int | None = after
        while place is not None:
            asked = {"after": place, "limit": 1000}
            page = self._ask("GET", f"/studies/{_part(study_id)}/events", params=asked, repeat=True)
            yield from page["items"]
            place = page["next"]

    def stream(self, study_id: str, *, after: int = 0) -> Iterator[tuple[str, Document | None]]:
        """The study's live messages as (name, data), for ever: ``event`` for what happened, ``standing``, ``curves``;
        with nothing: ``alive``, where the server only says that it is there, and ``lost``, before a connection that was
        lost is made again where it was. Ends when the study is deleted."""
        path, lost = f"/studies/{_part(study_id)}/events", time.monotonic()
        while True:
            headers = {"Accept": "text/event-stream", "Last-Event-ID": str(after)}
            try:
                with self._http.stream("GET", path, headers=headers) as answer:
                    if answer.status_code not in _AGAIN:
                        if not answer.is_success:
                            answer.read()
                            self._read(answer)
                        for name, data in server_sent.messages(answer.iter_lines()):
                            lost = None
                            if name == "deleted":
                                return
                            if name == "event":
                                after = data["sequence"]
                            yield name, data
            except httpx.HTTPError as error:
                if time.monotonic() - (lost or time.monotonic()) > self.patience:
                    raise self._unreachable(error) from error
            lost = lost or time.monotonic()
            if time.monotonic() - lost > self.patience:
                raise Unreachable(f"{self.url} does not answer. Remedy: look at its logs, then try again")
            yield "lost", None
            time.sleep(_PAUSES[1])

    def pause(self, study_id: str) -> Document:
        return self._ask("POST", f"/studies/{_part(study_id)}/pause")

    def resume(self, study_id: str) -> Document:
        return self._ask("POST", f"/studies/{_part(study_id)}/resume")

    def cancel(self, study_id: str) -> Document:
        return self._ask("POST", f"/studies/{_part(study_id)}/cancel")

    def extend(self, study_id: str, trials: int) -> Document:
        """``trials``: the new total."""
        return self._ask("POST", f"/studies/{_part(study_id)}/extend", repeat=True, json={"trials": trials})

    def retry(self, study_id: str, *, outcomes: list[str] | None = None, ordinals: list[int] | None = None) -> Document:
        """Of the trials that ended for good without counting; None: whatever their outcome, or number."""
        wanted = {"outcomes": outcomes, "ordinals": ordinals}
        given = {name: value for name, value in wanted.items() if value is not None}
        return self._ask("POST", f"/studies/{_part(study_id)}/retry", json=given)

    def enqueue(self, study_id: str, *trials: dict[str, float], key: str | None = None) -> Document:
        """Chosen hyper-parameters, one mapping per trial; answers what waits in line. Safe to repeat, as ``submit``."""
        headers = {"Idempotency-Key": key or str(uuid.uuid4())}
        path = f"/studies/{_part(study_id)}/trials"
        return self._ask("POST", path, repeat=True, headers=headers, json={"trials": list(trials)})

    def widen(self, study_id: str, *, key: str | None = None, **wanted: Any) -> Document:
        """A new study with wider ranges; ``wanted``: fields of the request, such as ``ranges``. Safe to repeat."""
        headers = {"Idempotency-Key": key or str(uuid.uuid4())}
        return self._ask("POST", f"/studies/{_part(study_id)}/widen", repeat=True, headers=headers, json=wanted)

    def statistics(self, study_id: str, *, seed: int | None = None) -> Document:
        """Means, convergence, saturated ranges and compute; ``seed``: of the bootstrap."""
        wanted = _given(seed=None if seed is None else str(seed))
        return self._ask("GET", f"/studies/{_part(study_id)}/statistics", params=wanted, repeat=True)

    def export(self, study_id: str) -> Document:
        """The study with every finished attempt, and its statistics, which can be computed again from these."""
        return self._ask("GET", f"/studies/{_part(study_id)}/export", repeat=True)

    def written_export(self, study_id: str, form: str = "csv") -> str:
        """The same as text: ``json``, or the attempts alone as ``csv``."""
        wanted = {"format": form}
        return self._ask("GET", f"/studies/{_part(study_id)}/export", params=wanted, repeat=True, read=_text)

    def export_comparison(self, comparison_id: str) -> Document:
        """The studies of a comparison as ``export`` gives them, and its table."""
        return self._ask("GET", f"/comparisons/{_part(comparison_id)}/export", repeat=True)

    def figure(self, study_id: str, name: str, form: str = "svg") -> bytes:
        """``history``, ``slice``, ``importance`` or ``curves``, as ``json``, ``svg``, ``png`` or ``html``."""
        return self._drawn(f"/studies/{_part(study_id)}/figures/{_part(name)}", format=form)

    def bars(self, comparison_id: str, form: str = "svg", *, reference: str | None = None) -> bytes:
        """The figure of a comparison; as ``figure``."""
        path = f"/comparisons/{_part(comparison_id)}/figures/bars"
        return self._drawn(path, **_given(format=form, reference=reference))

    def delete(self, study_id: str) -> None:
        self._ask("DELETE", f"/studies/{_part(study_id)}")

    def compare(
        self,
        document: Document | str,
        *,
        media_type: str = "application/yaml",
        dry_run: bool = False,
        key: str | None = None,
    ) -> Document:
        """Post a comparison, or a preset that is one; as ``submit`` does."""
        return self._post("/comparisons", document, media_type, dry_run, key)

    def comparisons(self, **filters: Any) -> Iterator[Document]:
        """Every comparison that matches, newest first."""
        return self._pages("/comparisons", filters)

    def comparison(self, comparison_id: str) -> Document:
        return self._ask("GET", f"/comparisons/{_part(comparison_id)}", repeat=True)

    def add_variants(self, comparison_id: str, variants: dict[str, Document]) -> Document:
        """``variants``: dotted overrides of the comparison's base by name. Safe to repeat."""
        return self._ask("POST", f"/comparisons/{_part(comparison_id)}/variants", repeat=True, json=variants)

    def pause_comparison(self, comparison_id: str) -> Document:
        """Every study of it that runs; ``changes`` of the answer says what became of each. So do the others."""
        return self._ask("POST", f"/comparisons/{_part(comparison_id)}/pause")

    def resume_comparison(self, comparison_id: str) -> Document:
        return self._ask("POST", f"/comparisons/{_part(comparison_id)}/resume")

    def cancel_comparison(self, comparison_id: str) -> Document:
        return self._ask("POST", f"/comparisons/{_part(comparison_id)}/cancel")

    def extend_comparison(self, comparison_id: str, trials: int) -> Document:
        """``trials``: the new total of each study that unlearns."""
        return self._ask("POST", f"/comparisons/{_part(comparison_id)}/extend", repeat=True, json={"trials": trials})

    def retry_comparison(self, comparison_id: str, *, outcomes: list[str] | None = None) -> Document:
        wanted = {} if outcomes is None else {"outcomes": outcomes}
        return self._ask("POST", f"/comparisons/{_part(comparison_id)}/retry", json=wanted)

    def delete_comparison(self, comparison_id: str) -> None:
        self._ask("DELETE", f"/comparisons/{_part(comparison_id)}")

    def table(self, comparison_id: str, *, reference: str | None = None, equal: str | None = None) -> Document:
        """``equal``: every variant at the compute of the one that spent least, in ``trials``, ``passes_booked``,
        ``passes_made``, ``gpu_seconds`` or ``cpu_seconds``."""
        wanted = _given(reference=reference, equal=equal)
        return self._ask("GET", f"/comparisons/{_part(comparison_id)}/table", params=wanted, repeat=True)

    def written_table(
        self, comparison_id: str, form: str, *, reference: str | None = None, equal: str | None = None
    ) -> str:
        """The table as ``markdown`` or ``csv``."""
        wanted = _given(format=form, reference=reference, equal=equal)
        return self._ask("GET", f"/comparisons/{_part(comparison_id)}/table", params=wanted, repeat=True, read=_text)

    def cluster(self) -> Document:
        """Nodes, what runs on them, what waits and why, and each owner's standing."""
        return self._ask("GET", "/cluster", repeat=True)

    def presets(self) -> list[Document]:
        answer = self._ask("GET", "/presets", repeat=True)
        return answer["items"] if isinstance(answer, dict) else answer

    def _post(self, path: str, document: Document | str, media_type: str, dry_run: bool, key: str | None) -> Document:
        if not isinstance(document, str):
            document, media_type = json.dumps(document), "application/json"
        headers = {"Content-Type": media_type, "Idempotency-Key": key or str(uuid.uuid4())}
        parameters = {"dry_run": "true"} if dry_run else {}
        return self._ask("POST", path, repeat=True, content=document.encode(), headers=headers, params=parameters)

    def _pages(self, path: str, filters: Document) -> Iterator[Document]:
        wanted = {name: value for name, value in filters.items() if value is not None}
        cursor: str | None = None
        while True:
            page = self._ask("GET", path, params=wanted | ({"cursor": cursor} if cursor else {}), repeat=True)
            yield from page["items"]
            if (cursor := page.get("next")) is None:
                return

    def _drawn(self, path: str, **wanted: str) -> bytes:
        return self._ask("GET", path, params=wanted, repeat=True, read=lambda answer: answer.content)

    def _ask(
        self,
        method: str,
        path: str,
        *,
        repeat: bool = False,
        read: Callable[[httpx.Response], Any] | None = None,
        **request: Any,
    ) -> Any:
        """``repeat``: the request changes nothing, or nothing more the second time. ``read``: takes from an answer what
        is no JSON."""
        deadline = time.monotonic() + self.patience
        for pause in itertools.chain(_PAUSES, itertools.repeat(_PAUSES[-1])):
            last = not repeat or time.monotonic() + pause > deadline
            try:
                answer = self._http.request(method, path, **request)
            except httpx.HTTPError as error:
                if last:
                    raise self._unreachable(error) from error
            else:
                if answer.status_code not in _AGAIN or last:
                    return read(answer) if read and answer.is_success else self._read(answer)
            time.sleep(pause)
        return None

    def _unreachable(self, error: httpx.HTTPError) -> Unreachable:
        if isinstance(error, httpx.ConnectError):
            return Unreachable(
                f"nothing listens at {self.url}. Remedy: start it with `mudman up`, "
                "or name another address with --url or MUDMAN_URL"
            )
        return Unreachable(
            f"{self.url} does not answer ({type(error).__name__}: {error}). Remedy: look at its logs, then try again"
        )

    def _read(self, answer: httpx.Response) -> Any:
        if answer.status_code == 204:
            return None
        try:
            body = answer.json()
        except ValueError:
            body = None
        if answer.is_success and body is not None:
            return body
        if isinstance(body, dict) and "title" in body:
            raise Refused(answer.status_code, body)
        raise Unreachable(
            f"{self.url} answers, but is no mudman API (HTTP status {answer.status_code}). "
            "Remedy: name the right address with --url or MUDMAN_URL"
        )


def _text(answer: httpx.Response) -> str:
    return answer.text


def _given(**parameters: str | None) -> dict[str, str]:
    return {name: value for name, value in parameters.items() if value is not None}


def _part(value: str) -> str:
    """As one part of a path: an id with a slash in it asks for no other resource."""
    return quote(value, safe="") or "%20"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
