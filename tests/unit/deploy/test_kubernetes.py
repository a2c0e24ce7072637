"""The manifests against their schemas, and what they promise: who can reach what, and as whom it runs."""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from jsonschema import Draft202012Validator

FOLDER = Path(__file__).parents[3] / "deploy" / "kubernetes"
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
    labels = TEMPLATES[name]["metadata"]["labels"]
    wrapped = {"selector": {"matchLabels": labels}, "template": TEMPLATES[name]}
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "ray"}, "spec": wrapped}
    kubernetes_validate.validate(deployment, KUBERNETES, strict=True)


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
