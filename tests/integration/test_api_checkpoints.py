"""Kept weights over HTTP, and pulled. Rows and artifacts are written as runner and node write them."""

import os
import threading
from pathlib import Path

import pytest
from problem_documents import assert_problem
from searched import submit
from served import served
from starlette.testclient import TestClient
from test_api_confirmation import FOUND, prepare, searched
from test_api_trials import finish, result

from mudman.artifacts import Artifacts
from mudman.checkpoints import described
from mudman.results import Checkpoint, Outcome
from mudman.specs import StudySpec
from service import pulling
from service.app import create_app
from service.cli import _run
from service.client import Client, Unreachable
from service.pulling import PullFailed, pull
from service.store import retention, studies
from service.store.settings import Settings
from service.store.states import Action
from service.store.tables import DoomedArtifact

FILES = {"README.md": b"# card\n", "config.json": b"{}", "model.safetensors": os.urandom(2_500_000), "empty": b""}


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory) -> str:
    return str(tmp_path_factory.mktemp("artifacts"))


@pytest.fixture(scope="module")
def settings(database, data_root, artifacts) -> Settings:
    return Settings(database_url=database.url, data_root=data_root, artifacts=artifacts, checkpoint_days=30)


@pytest.fixture(scope="module")
def keeping_api(settings):
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(scope="module")
def address(settings):
    with served(create_app(settings)) as address:
        yield address


def keep(
    database, artifacts, child: str, ordinal: int, number: int, value: float, agreement="bit-equal", attempt=1
) -> None:
    """As a node does: the files, then the result."""
    store, key = Artifacts(artifacts), f"{child}/{number}-{attempt}"
    for name, content in FILES.items():
        store.put_bytes(f"{key}/{name}", content)
    files = [described(Path(artifacts, key, name)) for name in sorted(FILES)]
    kept = Checkpoint(ordinal=ordinal, agreement=agreement, difference=0.0, files=tuple(files), key=key)
    finish(database, child, number, result(Outcome.VALID, value, checkpoint=kept), attempt)


def complete(database, study_id: str) -> None:
    with database.begin() as session:
        for action in (Action.PREPARE, Action.RUN, Action.COMPLETE):
            studies.change_state(session, study_id, action)


@pytest.fixture(scope="module")
def study(keeping_api, database, artifacts) -> str:
    """Whose best two are kept, the second of which came out otherwise."""
    study_id = searched(keeping_api, database, "to be kept")
    made = keeping_api.post(f"/studies/{study_id}/checkpoints", json={"best": 2})
    assert made.status_code == 201, made.text
    child = made.json()["id"]
    keep(database, artifacts, child, 1, 0, FOUND[1])
    keep(database, artifacts, child, 3, 1, 2.5, agreement="differs")
    complete(database, child)
    return study_id


def test_the_study_that_keeps_them(keeping_api, study):
    listed = keeping_api.get(f"/studies/{study}/checkpoints").json()
    [keeping] = listed["keeping"]
    assert (keeping["name"], keeping["state"], keeping["trials"]) == ("to be kept-kept", "completed", [1, 3])
    made = keeping_api.get(f"/studies/{keeping['study']}").json()
    assert made["labels"]["checkpoints_of"] == study
    spec = StudySpec.model_validate(made["spec"])
    assert (spec.repeats.keep, spec.budget.trials, spec.priority) == (True, 2, 7)
    assert [spec.for_trial(number).seeds for number in (0, 1)] == [spec.seeds] * 2
    one = spec.repeats.configurations[0]
    assert (one.recorded.value, one.recorded.passes) == (4.0, (0, 30))
    assert (one.recorded.forget_loss, one.recorded.retain_loss) == ((2.0, 4.0), (3.0, None))
    assert spec.repeats.baseline.value == 1.5


def test_what_is_kept(keeping_api, study):
    first, second = keeping_api.get(f"/studies/{study}/checkpoints").json()["items"]
    assert (first["ordinal"], first["searched"], first["value"], first["agreement"]) == (1, 4.0, 4.0, "bit-equal")
    assert (second["ordinal"], second["searched"], second["value"], second["agreement"]) == (3, 3.9, 2.5, "differs")
    assert first["bytes"] == sum(map(len, FILES.values()))
    assert keeping_api.get(f"/studies/{study}/checkpoints/1").json() == first
    assert keeping_api.get(f"/studies/{study}/best").json()["checkpoint"] == f"/studies/{study}/checkpoints/1"
    # Asked of the study that kept them, it is the same.
    again = keeping_api.get(f"/studies/{first['run']}/checkpoints/1").json()
    assert (again["run"], again["files"][0]["sha256"]) == (first["run"], first["files"][0]["sha256"])
    assert "model.safetensors" in keeping_api.get(f"/ui/studies/{study}").text


def test_downloads_whole_and_in_part(keeping_api, study):
    for file in keeping_api.get(f"/studies/{study}/checkpoints/1").json()["files"]:
        answer = keeping_api.get(file["href"])
        assert (answer.status_code, answer.content) == (200, FILES[file["name"]])
        assert answer.headers["etag"] == f'"{file["sha256"]}"'
    weights, content = f"/studies/{study}/checkpoints/1/model.safetensors", FILES["model.safetensors"]
    for asked, start, end in (("bytes=5-", 5, 2_500_000), ("bytes=7-9", 7, 10), ("bytes=9-9999999", 9, 2_500_000)):
        answer = keeping_api.get(weights, headers={"Range": asked})
        assert (answer.status_code, answer.content) == (206, content[start:end])
        assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/2500000"
    for none in ("bytes=-5", "bytes=5-3", "bytes=2500000-1"):
        answer = keeping_api.get(weights, headers={"Range": none})
        assert (answer.status_code, answer.content) == (200, content), "a form that is not honoured, or no range"
    for behind in ("bytes=2500000-", "bytes=2500000-2500001"):
        answer = keeping_api.get(weights, headers={"Range": behind})
        assert_problem(answer, 416, "no-such-range")
        assert answer.headers["content-range"] == "bytes */2500000"


def test_refusals(api, keeping_api, database, study):
    assert_problem(api.post(f"/studies/{study}/checkpoints"), 409, "no-artifacts")
    wanted = {"preset": "quickstart", "overrides": {"name": "to nowhere", "checkpoints": {"best": 1}}}
    problem = assert_problem(api.post("/studies", json=wanted), 422, "invalid-spec")
    assert (problem["errors"][0]["path"], "MUDMAN_ARTIFACTS" in problem["errors"][0]["remedy"]) == ("checkpoints", True)
    assert keeping_api.post("/studies", json=wanted).status_code == 201
    for path in ("/2", "/1/model.bin", "/1/..%2f..%2fREADME.md"):
        answer = keeping_api.get(f"/studies/{study}/checkpoints{path}")
        assert answer.status_code == 404, path
    detail = assert_problem(keeping_api.get(f"/studies/{study}/checkpoints/2"), 404, "no-checkpoint")["detail"]
    assert "mudman pull" in detail
    for body in ({"best": 1, "trials": [1]}, {"best": 0}, {"trials": []}):
        assert_problem(keeping_api.post(f"/studies/{study}/checkpoints", json=body), 422, "invalid-request")
    problem = assert_problem(keeping_api.post(f"/studies/{study}/checkpoints", json={"trials": [1, 9]}), 409,
                             "nothing-to-repeat")  # fmt: skip
    assert "not valid: 9." in problem["detail"]
    assert_problem(keeping_api.post(f"/studies/{submit(api, 'none')}/checkpoints"), 409, "nothing-to-repeat")


def test_request_examples_are_accepted(keeping_api, database):
    document = keeping_api.get("/openapi.json").json()
    content = document["paths"]["/studies/{study_id}/checkpoints"]["post"]["requestBody"]["content"]
    for name, example in content["application/json"]["examples"].items():
        study_id = searched(keeping_api, database, f"example {name}")
        value = example["value"] | ({"trials": [2]} if "trials" in example["value"] else {})
        assert keeping_api.post(f"/studies/{study_id}/checkpoints", json=value).status_code == 201


# ------------------------------------------------------------------------------------------------------------- pull


def test_pulled_whole(address, study, tmp_path, capsys):
    folder = tmp_path / "below" / "model"
    assert _run(["pull", study, str(folder), "--url", address]) == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == FILES
    assert "bit for bit as the search recorded it" in capsys.readouterr().out
    assert [path.name for path in folder.parent.iterdir()] == ["model"]
    assert _run(["pull", study, str(folder), "--url", address]) == 0
    assert "they were there" in capsys.readouterr().out
    (folder / "config.json").write_text("changed")
    assert _run(["pull", study, str(folder), "--url", address]) == 1
    assert "holds something else" in capsys.readouterr().err
    assert (folder / "config.json").read_text() == "changed"
    assert _run(["pull", study, str(tmp_path / "other"), "--trial", "3", "--url", address]) == 0
    assert "TAKE CARE" in capsys.readouterr().out


class CutOff(Client):
    """A connection that ends after so many bytes, once."""

    def __init__(self, url: str, after: int):
        super().__init__(url)
        self.left, self.asked = after, []

    def download(self, path, start=0):
        self.asked.append((path.rpartition("/")[2], start))
        for part in super().download(path, start):
            if self.left is not None and len(part) > self.left:
                yield part[: self.left]
                self.left = None
                raise Unreachable("cut off")
            if self.left is not None:
                self.left -= len(part)
            yield part


def test_a_pull_that_was_cut_off_goes_on(address, study, tmp_path):
    folder = tmp_path / "model"
    with CutOff(address, after=1_200_000) as client:
        found = client.checkpoints(study)["items"][0]
        with pytest.raises(Unreachable):
            pull(client, found, folder)
        assert not folder.exists()
        assert pull(client, found, folder)
        assert client.asked[-1] == ("model.safetensors", 1_200_000 - len(FILES["README.md"] + FILES["config.json"]))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == FILES
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_what_is_damaged_never_becomes_a_folder(address, study, artifacts, tmp_path):
    folder = tmp_path / "model"
    with Client(address) as client:
        found = client.checkpoints(study)["items"][0]
        # On the way: what is here of the file is not what was kept.
        partial = tmp_path / f".model.{pulling._identity(found)}.partial"
        partial.mkdir()
        (partial / "model.safetensors").write_bytes(b"x" * 100)
        (partial / "stray").write_bytes(b"x")
        with pytest.raises(PullFailed, match="SHA-256"):
            pull(client, found, folder)
        assert not folder.exists()
        assert pull(client, found, folder), "begun anew"
        # In the store.
        stored = os.path.join(artifacts, found["run"], "0-1", "model.safetensors")
        with open(stored, "r+b") as file:
            file.write(b"damaged")
        try:
            with pytest.raises(PullFailed, match="artifact store is damaged"):
                pull(client, found, tmp_path / "again")
        finally:
            with open(stored, "wb") as file:
                file.write(FILES["model.safetensors"])
        assert not (tmp_path / "again").exists()
        file = found["files"][0] | {"name": "../escaped"}
        with pytest.raises(PullFailed, match="no plain name"):
            pull(client, found | {"files": [file]}, tmp_path / "third")
        (tmp_path / "file").write_text("")
        for taken in (tmp_path / "file", tmp_path / "file" / "model"):
            with pytest.raises(PullFailed, match="Remedy"):
                pull(client, found, taken)


def test_pulling_has_the_best_kept_first(address, database, keeping_api, artifacts, tmp_path, capsys):
    """Until it is there, and says so where it will not be."""
    study_id = searched(keeping_api, database, "pulled at once")
    code, folder = [], tmp_path / "model"
    command = ["pull", study_id, str(folder), "--url", address]
    assert _run([*command, "--no-wait"]) == 1
    pulling_it = threading.Thread(target=lambda: code.append(_run(command)))
    pulling_it.start()
    [keeping] = keeping_api.get(f"/studies/{study_id}/checkpoints").json()["keeping"]
    assert keeping["trials"] == [1]
    keep(database, artifacts, keeping["study"], 1, 0, FOUND[1])
    pulling_it.join(60)
    assert code == [0]
    assert (folder / "README.md").read_bytes() == FILES["README.md"]
    # One of several that are being kept already: it is waited for, and nothing is run twice.
    several = searched(keeping_api, database, "three are being kept")
    child = keeping_api.post(f"/studies/{several}/checkpoints", json={"best": 3}).json()["id"]
    assert _run(["pull", several, str(tmp_path / "third"), "--trial", "2", "--no-wait", "--url", address]) == 1
    assert child in capsys.readouterr().err
    assert len(keeping_api.get(f"/studies/{several}/checkpoints").json()["keeping"]) == 1
    other = searched(keeping_api, database, "pulled in vain")
    child = keeping_api.post(f"/studies/{other}/checkpoints", json={"trials": [1]}).json()["id"]
    prepare(database, child, 1.5)
    complete(database, child)
    assert _run(["pull", other, str(tmp_path / "other"), "--url", address]) == 1
    assert "kept no weights of trial 1" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def test_the_best_confirmed_one(address, database, keeping_api, artifacts, tmp_path, capsys):
    study_id = searched(keeping_api, database, "confirmed and pulled")
    command = ["pull", study_id, str(tmp_path / "model"), "--confirmed", "--no-wait", "--url", address]
    assert _run(command) == 1
    assert f"mudman confirm {study_id}" in capsys.readouterr().err
    child = keeping_api.post(f"/studies/{study_id}/confirm", json={"best": 2, "seeds": 2}).json()["id"]
    for number, value in enumerate((3.0, 3.1, 3.6, 3.7)):
        finish(database, child, number, result(Outcome.VALID, value))
    assert _run(command) == 1
    assert "is queued" in capsys.readouterr().err
    complete(database, child)
    keeping = keeping_api.post(f"/studies/{study_id}/checkpoints", json={"trials": [3]}).json()["id"]
    keep(database, artifacts, keeping, 3, 0, FOUND[3])
    assert _run(command) == 0
    assert "trial 3, value 3.9000" in capsys.readouterr().out


# -------------------------------------------------------------------------------------------------------- retention


def test_the_old_are_let_go_and_can_be_kept_anew(keeping_api, database, artifacts, settings):
    study_id = searched(keeping_api, database, "kept long ago")
    child = keeping_api.post(f"/studies/{study_id}/checkpoints").json()["id"]
    keep(database, artifacts, child, 1, 0, FOUND[1])
    complete(database, child)
    assert retention.drop_old(database, settings)["artifacts"] == 0
    assert len(keeping_api.get(f"/studies/{study_id}/checkpoints").json()["items"]) == 1
    with database.begin() as session:
        row = studies.get(session, child)
        row.finished_at = row.finished_at.replace(year=row.finished_at.year - 1)
    assert retention.drop_old(database, settings)["artifacts"] == 1
    assert Artifacts(artifacts).keys(child) == []
    assert keeping_api.get(f"/studies/{study_id}/checkpoints").json()["items"] == []
    assert keeping_api.get(f"/studies/{study_id}/best").json()["checkpoint"] is None
    assert retention.drop_old(database, settings)["artifacts"] == 0
    anew = keeping_api.post(f"/studies/{study_id}/checkpoints")
    assert (anew.status_code, anew.json()["name"]) == (201, "kept long ago-kept-2")


def test_what_a_retry_keeps_is_not_let_go_with_the_rest(keeping_api, database, artifacts, settings):
    """Of a study that was let go while the store was away."""
    study_id = searched(keeping_api, database, "kept in two goes")
    child = keeping_api.post(f"/studies/{study_id}/checkpoints", json={"best": 2}).json()["id"]
    keep(database, artifacts, child, 1, 0, FOUND[1])
    finish(database, child, 1, result(Outcome.ERROR))
    complete(database, child)
    with database.begin() as session:
        row = studies.get(session, child)
        row.finished_at = row.finished_at.replace(year=row.finished_at.year - 1)
    retention.drop_old(database, settings.model_copy(update={"artifacts": None}))
    assert keeping_api.post(f"/studies/{child}/retry").status_code == 200
    keep(database, artifacts, child, 3, 1, FOUND[3], attempt=2)
    complete(database, child)
    retention.drop_old(database, settings)
    stored = Artifacts(artifacts)
    assert stored.keys(f"{child}/0-1") == []
    assert len(stored.keys(f"{child}/1-2")) == len(FILES)
    [kept] = keeping_api.get(f"/studies/{study_id}/checkpoints").json()["items"]
    assert kept["ordinal"] == 3
    card = keeping_api.get(f"/studies/{study_id}/checkpoints/3/README.md")
    assert (card.status_code, card.content) == (200, FILES["README.md"])


def test_they_go_with_the_study_that_kept_them(keeping_api, database, artifacts, settings):
    study_id = searched(keeping_api, database, "kept and deleted")
    child = keeping_api.post(f"/studies/{study_id}/checkpoints").json()["id"]
    keep(database, artifacts, child, 1, 0, FOUND[1])
    complete(database, child)
    assert keeping_api.delete(f"/studies/{child}").status_code == 204
    assert len(Artifacts(artifacts).keys(child)) == len(FILES)
    # The store is away: nothing is forgotten.
    assert retention.drop_old(database, settings.model_copy(update={"artifacts": None}))["artifacts"] == 0
    with database.begin() as session:
        assert session.get(DoomedArtifact, child) is not None
    assert retention.drop_old(database, settings)["artifacts"] == 1
    assert Artifacts(artifacts).keys(child) == []
