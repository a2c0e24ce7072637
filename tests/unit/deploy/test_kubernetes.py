"""The manifests against their schemas, and what they promise: who can reach what, and as whom it runs.

The operator's schema is an excerpt that was written by hand from its CRD, 1.6: it finds a name that is misspelt and a
value that is of the wrong kind, and no disagreement with an operator of another version.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from jsonschema import Draft202012Validator

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "deploy" / "kubernetes"
DOCUMENTS = [FOLDER / "README.md", ROOT / "docs" / "how-to" / "kubernetes.md"]
KUBERNETES = "1.34"
SCHEMA = json.loads(Path(__file__).with_name("raycluster.schema.json").read_text())

Manifest = dict[str, Any]


def read(path: Path) -> list[Manifest]:
    # YAML 1.1, as Kubernetes reads it.
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def base() -> list[Manifest]:
    listed = yaml.safe_load((FOLDER / "base" / "kustomization.yaml").read_text())["resources"]
    there = sorted(path.name for path in (FOLDER / "base").glob("*.yaml") if path.name != "kustomization.yaml")
    assert sorted(listed) == there
    return [manifest for name in listed for manifest in read(FOLDER / "base" / name)]


MANIFESTS = base()
CLUSTER = next(manifest for manifest in MANIFESTS if manifest["kind"] == "RayCluster")


def named(manifest: Manifest) -> str:
    return f"{manifest['kind']} {manifest['metadata']['name']}"


def templates() -> dict[str, Manifest]:
    """Pod templates by name."""
    found = {named(m): m["spec"]["template"] for m in MANIFESTS if m["kind"] in ("Deployment", "StatefulSet", "Job")}
    found["Ray head"] = CLUSTER["spec"]["headGroupSpec"]["template"]
    return found | {f"Ray {group['groupName']}": group["template"] for group in CLUSTER["spec"]["workerGroupSpecs"]}


TEMPLATES = templates()


@pytest.mark.parametrize(
    "manifest", [m for m in MANIFESTS if m is not CLUSTER] + read(FOLDER / "secrets.template.yaml"), ids=named
)
def test_is_what_kubernetes_takes(manifest):
    kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


def test_a_field_that_kubernetes_does_not_know_would_be_found():
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(MANIFESTS[0] | {"specs": {}}, KUBERNETES, strict=True)


def test_is_what_the_operator_takes():
    errors = [error.message for error in Draft202012Validator(SCHEMA).iter_errors(CLUSTER)]
    assert errors == []
    assert CLUSTER["spec"]["rayVersion"] == version("ray")


@pytest.mark.parametrize("name", [name for name in TEMPLATES if name.startswith("Ray")])
def test_its_pods_are_what_kubernetes_takes(name):
    kubernetes_validate.validate(as_deployment(TEMPLATES[name]), KUBERNETES, strict=True)


def as_deployment(template: Manifest) -> Manifest:
    """Something with such pods that Kubernetes itself knows."""
    wrapped = {"selector": {"matchLabels": template["metadata"]["labels"]}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "ray"}, "spec": wrapped}


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
@pytest.mark.parametrize("overlay", ["base", "cpu"])
def test_what_is_applied_is_what_kubernetes_and_the_operator_take(overlay):
    command = ["kubectl", "kustomize", str(FOLDER / overlay)]
    built = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    manifests = list(yaml.safe_load_all(built))
    assert sorted(map(named, manifests)) == sorted(map(named, MANIFESTS))
    [cluster] = [manifest for manifest in manifests if manifest["kind"] == "RayCluster"]
    assert [error.message for error in Draft202012Validator(SCHEMA).iter_errors(cluster)] == []
    groups = [cluster["spec"]["headGroupSpec"], *cluster["spec"]["workerGroupSpecs"]]
    pods = [as_deployment(group["template"]) for group in groups]
    for manifest in [manifest for manifest in manifests if manifest is not cluster] + pods:
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
    assert all(
        manifest["metadata"]["namespace"] == "mudman" for manifest in manifests if manifest["kind"] != "Namespace"
    )
    images = set(re.findall(r"image: (\S+)", built))
    assert images == {f"registry.example.com/mudman-{name}:latest" for name in ("service", "worker")} | {"postgres:18"}
    assert ("nvidia" in built) is (overlay == "base")


def test_an_update_reaches_nodes_that_run():
    assert CLUSTER["spec"]["upgradeStrategy"] == {"type": "Recreate"}


@pytest.mark.parametrize("name", TEMPLATES)
def test_nothing_runs_as_root_or_gains_rights(name):
    pod = TEMPLATES[name]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in pod["containers"]:
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["requests"].keys() >= {"cpu", "memory"}
        assert name.startswith("Job") or "livenessProbe" in container


def secrets(pod: Manifest) -> set[str]:
    keys = set()
    for volume in pod["volumes"]:
        if secret := volume.get("secret"):
            keys |= {item["key"] for item in secret.get("items", [{"key": secret["secretName"]}])}
    return keys


def test_each_pod_has_the_secrets_that_it_needs_and_no_other():
    assert {name: secrets(template["spec"]) for name, template in TEMPLATES.items()} == {
        "StatefulSet postgres": {"postgres_password"},
        "Job migrate": {"database_url", "access"},
        "Deployment api": {"database_url"},
        "Deployment dispatcher": {"database_url", "ray"},
        "Ray head": {"ray"},
        "Ray gpu": {"ray"},
    }
    assert not any(value for m in read(FOLDER / "secrets.template.yaml") for value in m["stringData"].values())


def named_secrets(part: Any) -> Iterator[tuple[str, set[str]]]:
    """Every secret without which a pod would not start, with the keys that it must have."""
    if isinstance(part, list):
        for one in part:
            yield from named_secrets(one)
    elif isinstance(part, dict):
        for kind, name in (("secret", "secretName"), ("secretRef", "name"), ("secretKeyRef", "name")):
            if (said := part.get(kind)) and not said.get("optional"):
                yield said[name], {item["key"] for item in said.get("items", ())}
        for one in part.values():
            yield from named_secrets(one)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_secret_that_a_pod_waits_for_is_made(document):
    wanted = list(named_secrets(MANIFESTS))
    assert {name for name, _ in wanted} == {"database", "ray", "access"}
    made = dict(re.findall(r"create secret generic (\w+) (--from-file.*)", document.read_text()))
    for name, keys in wanted:
        assert keys <= set(re.findall(r"--from-file=secrets/(\w+)", made[name]))


def test_prometheus_watches_under_the_name_that_the_rules_ask_for():
    [block] = re.findall(r"```yaml\n(.*?)```", (FOLDER / "README.md").read_text(), re.DOTALL)
    [job] = yaml.safe_load(block)["scrape_configs"]
    rules = (ROOT / "deploy" / "monitoring" / "rules.yaml").read_text()
    assert {job["job_name"]} == set(re.findall(r'job="(\w+)"', rules))
    [meta] = [rule for rule in job["relabel_configs"] if rule["action"] == "keep"]
    labels = TEMPLATES["Deployment api"]["metadata"]["labels"]
    assert meta["source_labels"] == [f"__meta_kubernetes_pod_label_{label}" for label in labels]
    assert [meta["regex"]] == list(labels.values())


def test_those_who_read_settings_take_them_from_one_map_that_may_be_missing():
    for name in ("Deployment api", "Deployment dispatcher"):
        [container] = TEMPLATES[name]["spec"]["containers"]
        assert container["envFrom"][0] == {"configMapRef": {"name": "settings", "optional": True}}


def test_whoever_reads_or_writes_checkpoints_knows_where_they_are():
    for name in ("Deployment api", "Deployment dispatcher", "Ray gpu"):
        [container] = TEMPLATES[name]["spec"]["containers"]
        assert {"secretRef": {"name": "artifacts", "optional": True}} in container["envFrom"]


def test_the_api_asks_for_tokens():
    [container] = TEMPLATES["Deployment api"]["spec"]["containers"]
    assert {"name": "MUDMAN_ACCESS", "value": "tokens"} in container["env"]


def test_only_those_with_the_password_have_a_way_to_the_database():
    policies = {m["metadata"]["name"]: m["spec"] for m in MANIFESTS if m["kind"] == "NetworkPolicy"}
    assert policies["nothing-by-default"] == {"podSelector": {}, "policyTypes": ["Ingress"]}
    [rule] = policies["postgres"]["ingress"]
    [peer] = rule["from"]
    [expression] = peer["podSelector"]["matchExpressions"]
    allowed = set(expression["values"])
    with_password = {
        t["metadata"]["labels"]["mudman"] for t in TEMPLATES.values() if "database_url" in secrets(t["spec"])
    }
    assert allowed == with_password
    for rule in policies["ray-outwards"]["egress"]:
        assert 5432 not in [port["port"] for port in rule.get("ports", [])]
        assert "to" in rule or "ports" in rule


def test_no_trial_runs_on_the_head_and_no_port_of_ray_is_public():
    head = CLUSTER["spec"]["headGroupSpec"]
    assert (head["rayStartParams"]["num-cpus"], head["rayStartParams"]["num-gpus"]) == ("0", "0")
    assert head["serviceType"] == "ClusterIP"
    assert {m["spec"].get("type", "ClusterIP") for m in MANIFESTS if m["kind"] == "Service"} == {"ClusterIP"}
    for name in ("Ray head", "Ray gpu", "Deployment dispatcher"):
        environment = {
            variable["name"]: variable["value"] for variable in TEMPLATES[name]["spec"]["containers"][0]["env"]
        }
        assert environment["RAY_AUTH_TOKEN_PATH"] == "/run/secrets/ray/ray_token"


def test_the_overlay_changes_what_is_there():
    """Every place that a patch names exists in the base; and afterwards nothing asks for a card."""
    [patch] = yaml.safe_load((FOLDER / "cpu" / "kustomization.yaml").read_text())["patches"]
    patched = json.loads(json.dumps(CLUSTER))
    for step in yaml.safe_load(patch["patch"]):
        *way, last = [int(part) if part.isdigit() else part for part in step["path"].split("/")[1:]]
        place = patched
        for part in way:
            place = place[part]
        assert last in place
        if step["op"] == "remove":
            del place[last]
        else:
            place[last] = step["value"]
    assert "nvidia" not in json.dumps(patched)
    assert "nvidia" in json.dumps(CLUSTER)
