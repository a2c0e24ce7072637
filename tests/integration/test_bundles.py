"""Evidence bundles: everything in one file, every number of it computed again, and no byte changed unnoticed.

Rows are written as the runner writes them; what they say comes from trials that were really run.
"""

import gzip
import hashlib
import io
import json
import random
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import large
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mutated import mutations
from problem_documents import assert_problem
from test_api_trials import finish

import mudman
from mudman.preparation import prepare
from mudman.results import Outcome, TrialResult
from mudman.specs import StudySpec, parse
from service.evidence.archive import NoBundle
from service.evidence.verification import verify
from service.store import database as database_module
from service.store import exports, studies

SIMULATED = {
    "model": {"id": "simulated"},
    "labels": {"outcome": "mixed"},
    "forget": {"corpus": "python-functions"},
    "retain": {"corpus": "wikipedia"},
    "method": {
        "type": "mudman",
        "target_modules": ["gate_proj"],
        "unlearning_rate": {"low": 1e-3, "high": 2e-2, "log": True},
        "retain_momentum": {"low": 0.0, "high": 0.9},
    },
    "attack": {"rate": 1e-2, "passes": 60},
    "budget": {"unlearn_passes": 150, "trials": 40},
    "statistics": {"last": 8},
}


def run(database, study_id: str, trials: int) -> None:
    """As a runner would: prepared, and so many trials with a result each; one was lost without a word."""
    with database.begin() as session:
        spec = StudySpec.model_validate(studies.get(session, study_id).spec)
        studies.get(session, study_id).preparation = prepare(spec).model_dump(mode="json")
    drawn = random.Random(26)
    for ordinal in range(trials):
        chosen = {
            name: space.low + drawn.random() * (space.high - space.low) for name, space in spec.search_space().items()
        }
        finish(database, study_id, ordinal, mudman.run_trial(spec, chosen), chosen=chosen or {"none": 0.0})
    finish(database, study_id, trials, TrialResult(outcome=Outcome.LOST))


@pytest.fixture(scope="module")
def study(api, database) -> str:
    made = api.post("/studies", json=SIMULATED | {"name": "kept"})
    assert made.status_code == 201, made.text
    run(database, made.json()["id"], 24)
    return made.json()["id"]


@pytest.fixture(scope="module")
def content(api, study) -> bytes:
    answer = api.get(f"/studies/{study}/export?format=bundle")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/zip"
    assert f'filename="{study}.zip"' in answer.headers["content-disposition"]
    assert int(answer.headers["content-length"]) == len(answer.content)
    return answer.content


@pytest.fixture
def kept(content: bytes, tmp_path: Path) -> Path:
    file = tmp_path / "bundle.zip"
    file.write_bytes(content)
    return file


def test_what_is_in_it(api, study, content, kept):
    with zipfile.ZipFile(kept) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    figures = {
        f"figures/{name}.{end}"
        for name in ("history", "slice", "importance", "curves", "times")
        for end in ("json", "svg")
    }
    texts = {
        "README.txt",
        "manifest.json",
        "spec.json",
        "study.json",
        "statistics.json",
        "best.json",
        "trials.jsonl.gz",
    }
    assert files.keys() == texts | figures
    manifest = json.loads(files["manifest.json"])
    for name, about in manifest["files"].items():
        assert about == {"sha256": hashlib.sha256(files[name]).hexdigest(), "bytes": len(files[name])}
    assert manifest["files"].keys() == files.keys() - {"manifest.json"}
    assert json.loads(files["statistics.json"]) == api.get(f"/studies/{study}/statistics").json()
    assert json.loads(files["figures/curves.json"]) == api.get(f"/studies/{study}/figures/curves").json()
    best, stored = json.loads(files["best.json"]), api.get(f"/studies/{study}/best").json()
    assert (best["ordinal"], best["value"]) == (stored["ordinal"], stored["value"])
    assert json.loads(files["spec.json"])["seeds"] == {"data": 42, "trial": 42}
    about = json.loads(files["study.json"])
    assert about["preparation"]["code"]["sha256"]
    assert about["preparation"]["hardware"]["cores"]
    trials = [json.loads(line) for line in gzip.decompress(files["trials.jsonl.gz"]).splitlines()]
    assert [one["ordinal"] for one in trials] == list(range(25))
    assert trials[0]["worker"] == {"node": "n1", "pid": 1, "device": "cpu"}
    assert len(trials[0]["result"]["relearning"]["passes"]) == 10

    report = verify(kept)
    assert report.faults == []
    assert (report.kind, report.files, report.studies, report.trials) == ("study", 17, 1, 25)
    assert report.numbers > 500


def test_the_same_study_makes_the_same_bytes(api, study, content):
    again = api.get(f"/studies/{study}/export?format=bundle").content
    first, second = (zipfile.ZipFile(io.BytesIO(made)) for made in (content, again))
    assert [name for name in first.namelist() if first.read(name) != second.read(name)] == []
    assert again == content
    other = api.get(f"/studies/{study}/export?format=bundle&seed=1").content
    assert other != content


def test_no_byte_changes_unnoticed(content, tmp_path):
    """Every kind of place: in headers, names, contents, the directory, behind the end."""
    drawn = random.Random(26)
    file = tmp_path / "changed.zip"
    ends = [
        content.index(b"manifest.json"),
        content.rindex(b"PK\x01\x02"),
        content.rindex(b"PK\x05\x06"),
        len(content) - 1,
    ]
    for place in [0, 10, 30, *ends, *(drawn.randrange(len(content)) for _ in range(10))]:
        file.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        try:
            assert verify(file).faults, f"byte {place}"
        except NoBundle:
            continue
    for changed in (content + b"\0", b"\0" + content, content[:-1]):
        file.write_bytes(changed)
        try:
            assert verify(file).faults
        except NoBundle:
            continue


def rewritten(kept: Path, name: str, change: Callable[[bytes], bytes]) -> Path:
    """A forger's bundle: a file changed, and its hash in the manifest with it."""
    with zipfile.ZipFile(kept) as archive:
        files = {entry: archive.read(entry) for entry in archive.namelist()}
    files[name] = change(files[name])
    manifest = json.loads(files["manifest.json"])
    manifest["files"][name] = {"sha256": hashlib.sha256(files[name]).hexdigest(), "bytes": len(files[name])}
    files["manifest.json"] = json.dumps(manifest, indent=1, ensure_ascii=False).encode()
    forged = kept.with_name("forged.zip")
    with zipfile.ZipFile(forged, "w") as archive:
        for entry, said in files.items():
            archive.writestr(entry, said)
    return forged


def of_line(number: int, change: Callable[[dict], object]) -> Callable[[bytes], bytes]:
    def changed(packed: bytes) -> bytes:
        lines = gzip.decompress(packed).splitlines()
        line = json.loads(lines[number])
        change(line)
        lines[number] = json.dumps(line).encode()
        return gzip.compress(b"\n".join(lines) + b"\n", mtime=0)

    return changed


def of_document(change: Callable[[dict], object]) -> Callable[[bytes], bytes]:
    def changed(content: bytes) -> bytes:
        document = json.loads(content)
        change(document)
        return json.dumps(document).encode()

    return changed


@pytest.mark.parametrize(("name", "change", "said"), [
    ("statistics.json", of_document(lambda d: d["result"].update(mean=9.0)), "statistics.json: result.mean: 9.0"),
    ("best.json", of_document(lambda d: d.update(ordinal=77)), "best.json: ordinal: 77 is stated"),
    ("study.json", of_document(lambda d: d["spec"].update(seeds={"trial": 7})), "study.json: spec_hash: "),
    ("spec.json", of_document(lambda d: d["seeds"].update(trial=7)), "spec.json: seeds.trial: 7 is"),
    ("study.json", of_document(lambda d: d["preparation"]["baseline"].update(value=1.0)),
     "study.json: preparation.baseline.value: 1.0"),
    ("figures/history.json", of_document(lambda d: d["layer"][0]["data"]["values"][1].update(value=7.5)),
     "figures/history.json: layer.0.data.values.1.value: 7.5"),
    ("figures/slice.svg", lambda svg: svg.replace(b"valid trials over each range", b"valid trials beyond each range"),
     "figures/slice.svg: is another drawing"),
    ("trials.jsonl.gz", of_line(3, lambda t: t.update(value=-1.0)), "trials.jsonl.gz: line 4 (trial 3): value: -1.0"),
    ("trials.jsonl.gz", of_line(2, lambda t: t["result"]["relearning"].update(forget_loss=[9.0] * 10)),
     "line 3 (trial 2): result.value: "),
    ("trials.jsonl.gz", of_line(3, lambda t: t.update(result=None, value=9.9)), "line 4 (trial 3): result: is missing"),
    ("trials.jsonl.gz", of_line(3, lambda t: t.update(ordinal=2, attempt=2)), "line 4: trial 2 counts a second time"),
    ("trials.jsonl.gz", of_line(24, lambda t: t.update(ordinal=3)), "line 25: trial 3, attempt 1 is out of order"),
    ("trials.jsonl.gz", of_line(2, lambda t: t["hyperparameters"].update(unlearning_rate=0.5)), "figures/slice.json: "),
    ("trials.jsonl.gz", lambda packed: packed[:100], "trials.jsonl.gz: cannot be read to its end"),
    ("study.json", lambda said: b"{", "study.json: is no JSON"),
])  # fmt: skip
def test_numbers_that_do_not_follow_from_the_trials(kept, name, change, said):
    """Also where whoever changed them wrote the hashes anew."""
    faults = verify(rewritten(kept, name, change)).faults
    assert any(line.startswith(said) or said in line for line in faults), faults[:5]


@pytest.mark.parametrize(("name", "change"), [
    ("study.json", of_document(lambda d: d["preparation"].update(baseline=[1]))),
    ("study.json", of_document(lambda d: d["spec"].update(objective=None))),
    ("trials.jsonl.gz", of_line(3, lambda t: t["hyperparameters"].update(unlearning_rate=-1.0))),
])  # fmt: skip
def test_what_cannot_be_computed_with_is_a_fault(kept, name, change):
    assert verify(rewritten(kept, name, change)).faults


def test_a_kind_that_is_no_word(kept):
    with zipfile.ZipFile(kept) as archive:
        manifest = json.loads(archive.read("manifest.json"))
    other = kept.with_name("other.zip")
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("manifest.json", json.dumps(manifest | {"kind": []}))
    with pytest.raises(NoBundle):
        verify(other)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(["study.json", "trials.jsonl.gz", "spec.json", "statistics.json", "figures/slice.json"]),
    line=st.integers(0, 24),
    data=st.data(),
)
def test_whatever_stands_in_a_bundle_checking_it_comes_to_an_end(kept, name, line, data):
    change = of_line(line, data.draw(mutations())) if name.endswith(".gz") else of_document(data.draw(mutations()))
    verify(rewritten(kept, name, change))


def test_what_is_no_bundle(kept, tmp_path):
    def zipped(*names: str) -> Path:
        file = tmp_path / "other.zip"
        with zipfile.ZipFile(file, "w") as archive:
            for name in names:
                archive.writestr(name, "{}")
        return file

    text = tmp_path / "text.zip"
    text.write_text("no zip")
    evil = [zipped("manifest.json", name) for name in ("../out", "/etc/passwd", "a/../../b", "a\\..\\b", "C:x")]
    for file in (text, zipped(), zipped("manifest.json"), zipped("manifest.json", "a", "manifest.json2"), *evil):
        with pytest.raises(NoBundle):
            verify(file)
    with pytest.raises(NoBundle), pytest.warns(UserWarning, match="Duplicate name"):
        verify(zipped("manifest.json", "a", "a"))


def test_a_study_without_anything(api, tmp_path):
    made = api.post("/studies", json=SIMULATED | {"name": "nothing to keep"}).json()
    file = tmp_path / "empty.zip"
    file.write_bytes(api.get(f"/studies/{made['id']}/export?format=bundle").content)
    report = verify(file)
    assert (report.faults, report.trials) == ([], 0)
    assert json.loads(zipfile.ZipFile(file).read("best.json")) is None
    assert_problem(api.get("/studies/st_aaaaaaaaaaaaaaaa/export?format=bundle"), 404, "unknown-study")


def test_a_comparison(api, database, tmp_path):
    variants = {"mudman": {}, "no_masking": {"method.mask": "none"}}
    document = SIMULATED | {"name": "compared", "variants": variants}
    made = api.post("/comparisons", json=document).json()
    for one in made["variants"]:
        run(database, one["study"], 6)
    here = f"{made['links']['self']}/export"
    file = tmp_path / "compared.zip"
    file.write_bytes(api.get(f"{here}?format=bundle&reference=no_masking&seed=4").content)
    report = verify(file)
    assert report.faults == []
    assert (report.kind, report.studies, report.trials) == ("comparison", 3, 21)
    with zipfile.ZipFile(file) as archive:
        table = json.loads(archive.read("table.json"))
        assert table == api.get(f"{made['links']['table']}?reference=no_masking&seed=4").json()
        assert {f"figures/{name}.svg" for name in ("bars", "curves", "times")} <= set(archive.namelist())
    forged = rewritten(file, "table.json", of_document(lambda d: d["rows"][0]["result"].update(n=5)))
    assert any(line.startswith("table.json: rows.0.result.n: 5 ") for line in verify(forged).faults)
    assert_problem(api.get(f"{here}?format=bundle&reference=nobody"), 404, "unknown-variant")


def test_results_that_take_long_to_write_do_not_cost_the_session(new_database, monkeypatch):
    """As those do that are megabytes each: the server ends a transaction that says nothing for long."""
    monkeypatch.setattr(database_module, "FROZEN", "500ms")
    store = new_database()
    with store.begin() as session:
        study_id = studies.create(session, parse(SIMULATED | {"name": "large"})).study.id
        large.fill(session, study_id, 60)
    written = []
    with store.begin() as session:
        for one in exports.whole(session, study_id):
            written.append(one.finished.ordinal)
            time.sleep(0.02)
    assert written == list(range(60))
