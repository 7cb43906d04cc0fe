"""The Kubernetes files checked offline: the autoscaler reads the clusters, every field of KubeRay's is one that KubeRay
defines, and pods and the rest are valid by Kubernetes' own schemas where the package `kubernetes-validate` is there.

KubeRay's definitions of its resources are in no package of Python, npm or Debian, and too large to keep here. `FIELDS`
has the names and types of its fields as its published reference lists them, authOptions of release 1.6.
"""

from __future__ import annotations

import copy
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

CLUSTER = Path(__file__).resolve().parents[2] / "cluster"
KUBERNETES = "1.31"
ANY = object  # what Kubernetes defines, not KubeRay
WORDS = dict[str, str]

# Fields of KubeRay's resources: a type, a set of words, another resource's name, or [name] for a list of it.
FIELDS: dict[str, dict[str, Any]] = {
    "RayCluster": {"apiVersion": {"ray.io/v1"}, "kind": {"RayCluster"}, "metadata": ANY, "spec": "RayClusterSpec"},
    "RayJob": {"apiVersion": {"ray.io/v1"}, "kind": {"RayJob"}, "metadata": ANY, "spec": "RayJobSpec"},
    "RayJobSpec": {
        "activeDeadlineSeconds": int,
        "backoffLimit": int,
        "clusterSelector": WORDS,
        "entrypoint": str,
        "entrypointNumCpus": float,
        "entrypointNumGpus": float,
        "entrypointResources": str,
        "jobId": str,
        "managedBy": str,
        "metadata": WORDS,
        "rayClusterSpec": "RayClusterSpec",
        "runtimeEnvYAML": str,
        "shutdownAfterJobFinishes": bool,
        "submissionMode": {"K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"},
        "submitterPodTemplate": ANY,
        "suspend": bool,
        "ttlSecondsAfterFinished": int,
    },
    "RayClusterSpec": {
        "authOptions": "AuthOptions",
        "autoscalerOptions": "AutoscalerOptions",
        "enableInTreeAutoscaling": bool,
        "headGroupSpec": "HeadGroupSpec",
        "headServiceAnnotations": WORDS,
        "managedBy": str,
        "rayVersion": str,
        "suspend": bool,
        "workerGroupSpecs": ["WorkerGroupSpec"],
    },
    "AuthOptions": {"mode": {"disabled", "token"}, "secretName": str, "enableK8sTokenAuth": bool},
    "AutoscalerOptions": {
        "env": ANY,
        "envFrom": ANY,
        "idleTimeoutSeconds": int,
        "image": str,
        "imagePullPolicy": str,
        "resources": ANY,
        "securityContext": ANY,
        "upscalingMode": {"Default", "Aggressive", "Conservative"},
        "version": {"v1", "v2"},
        "volumeMounts": ANY,
    },
    "HeadGroupSpec": {
        "enableIngress": bool,
        "headService": ANY,
        "rayStartParams": WORDS,
        "serviceType": str,
        "template": ANY,
    },
    "WorkerGroupSpec": {
        "groupName": str,
        "idleTimeoutSeconds": int,
        "maxReplicas": int,
        "minReplicas": int,
        "numOfHosts": int,
        "rayStartParams": WORDS,
        "replicas": int,
        "suspend": bool,
        "template": ANY,
    },
}


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((CLUSTER / name).read_text(encoding="utf-8")))


@pytest.fixture(params=["kuberay_rayjob.yaml", "kuberay_raycluster.yaml"])
def resource(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The RayJob, and the RayCluster."""
    (only,) = documents(request.param)
    return only


@pytest.fixture
def rayjob() -> dict[str, Any]:
    return documents("kuberay_rayjob.yaml")[0]


@pytest.fixture
def once() -> dict[str, dict[str, Any]]:
    """By kind, what is applied once."""
    return {each["kind"]: each for name in ("kuberay_storage.yaml", "kuberay_limits.yaml") for each in documents(name)}


def cluster_of(resource: dict[str, Any]) -> dict[str, Any]:
    """The specification of the cluster that a RayJob brings up, or that a RayCluster is."""
    spec: dict[str, Any] = resource["spec"]
    return spec.get("rayClusterSpec", spec)


def groups(resource: dict[str, Any]) -> list[dict[str, Any]]:
    """The head's group and the workers'."""
    spec = cluster_of(resource)
    return [spec["headGroupSpec"], *spec["workerGroupSpecs"]]


def pods(resource: dict[str, Any]) -> list[dict[str, Any]]:
    return [group["template"]["spec"] for group in groups(resource)]


def as_the_autoscaler_reads(resource: dict[str, Any]) -> dict[str, Any]:
    """What the autoscaler beside the head makes of the cluster."""
    cluster = {"metadata": {"name": "vaesweep", "namespace": "default"}, "spec": cluster_of(resource)}
    return _derive_autoscaling_config_from_ray_cr(cluster)


def faults(value: Any, kind: Any, where: str) -> Iterator[str]:
    """Where `value` departs from `FIELDS`."""
    if kind is ANY:
        return
    if isinstance(kind, str):
        for name, entry in value.items():
            if name in FIELDS[kind]:
                yield from faults(entry, FIELDS[kind][name], f"{where}.{name}")
            else:
                yield f"{where}.{name} is no field of {kind}"
    elif isinstance(kind, list):
        for index, entry in enumerate(value):
            yield from faults(entry, kind[0], f"{where}.{index}")
    elif isinstance(kind, set):
        if value not in kind:
            yield f"{where} is none of {sorted(kind)}"
    elif kind == WORDS:
        yield from (f"{where}.{name} is not a string" for name, entry in value.items() if not isinstance(entry, str))
    elif type(value) is not kind:
        yield f"{where} is not of type {kind.__name__}"


def test_every_field_is_one_of_kuberays(resource: dict[str, Any]) -> None:
    assert list(faults(resource, resource["kind"], resource["kind"])) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["rayversion"], "2.60.0"),
        (["rayVersion"], 2.6),
        (["authOptions", "mode"], "password"),
        (["autoscalerOptions", "version"], "v3"),
        (["autoscalerOptions", "idleTimeoutSeconds"], "300"),
        (["headGroupSpec", "rayStartParams", "num-cpus"], 0),
        (["workerGroupSpecs", 0, "maxReplica"], 4),
        (["workerGroupSpecs", 0, "minReplicas"], "0"),
    ],
    ids=str,
)
def test_a_planted_error_in_a_field_of_kuberays_is_caught(
    resource: dict[str, Any], path: list[Any], value: object
) -> None:
    target: Any = cluster_of(resource)
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    assert list(faults(resource, resource["kind"], resource["kind"]))


def test_the_autoscaler_reads_the_cluster_and_workers_scale_from_zero(resource: dict[str, Any]) -> None:
    spec = cluster_of(resource)
    assert spec["enableInTreeAutoscaling"] is True
    assert spec["authOptions"]["mode"] == "token"
    config = as_the_autoscaler_reads(resource)
    head = config["available_node_types"].pop(config["head_node_type"])
    assert head["resources"]["CPU"] == 0, "packs would run on the head"
    workers = config["available_node_types"].values()
    assert any(each["resources"].get("GPU", 0) > 0 for each in workers)
    assert all((each["min_workers"], each["max_workers"] > 0) == (0, True) for each in workers)


def test_a_worker_group_without_cpus_is_caught(resource: dict[str, Any]) -> None:
    groups(resource)[1]["template"]["spec"]["containers"][0]["resources"] = {}
    with pytest.raises(ValueError, match="CPU"):
        as_the_autoscaler_reads(resource)


def test_a_job_leaves_no_cluster_behind(rayjob: dict[str, Any]) -> None:
    assert rayjob["spec"]["shutdownAfterJobFinishes"] is True
    assert rayjob["spec"]["ttlSecondsAfterFinished"] < 3600


def test_job_and_lasting_cluster_are_the_same_cluster(rayjob: dict[str, Any]) -> None:
    (lasting,) = documents("kuberay_raycluster.yaml")
    assert cluster_of(lasting) == cluster_of(rayjob)


def test_every_pod_runs_one_image_without_root_and_mounts_the_shared_volume(
    resource: dict[str, Any], once: dict[str, dict[str, Any]]
) -> None:
    images = set()
    for pod in pods(resource):
        (container,) = pod["containers"]
        images.add(container["image"])
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] != 0
        claim = pod["volumes"][0]["persistentVolumeClaim"]["claimName"]
        assert claim == once["PersistentVolumeClaim"]["metadata"]["name"]
        assert container["volumeMounts"][0]["mountPath"] == "/shared"
        assert container["resources"]["requests"]
    assert len(images) == 1


def test_mlflow_is_told_to_the_driver_by_reference(resource: dict[str, Any], once: dict[str, dict[str, Any]]) -> None:
    head, *workers = (pod["containers"][0] for pod in pods(resource))
    (variable,) = [each for each in head["env"] if each["name"] == "MLFLOW_TRACKING_URI"]
    reference = variable["valueFrom"]["configMapKeyRef"]
    assert reference["name"] == once["ConfigMap"]["metadata"]["name"]
    assert reference["key"] in once["ConfigMap"]["data"]
    assert not any("env" in worker for worker in workers), "workers do not write to MLflow"


def test_results_of_the_job_go_to_the_shared_volume(rayjob: dict[str, Any]) -> None:
    words = shlex.split(rayjob["spec"]["entrypoint"])
    for option in ("--out", "--storage"):
        assert words[words.index(option) + 1].startswith("/shared/")


def test_pods_of_ray_take_connections_from_their_namespace_and_the_operator_only(
    once: dict[str, dict[str, Any]],
) -> None:
    policy = once["NetworkPolicy"]["spec"]
    assert policy["podSelector"]["matchLabels"] == {"ray.io/is-ray-node": "yes"}
    assert policy["policyTypes"] == ["Ingress"]
    (rule,) = policy["ingress"]
    same_namespace, operator = rule["from"]
    assert same_namespace == {"podSelector": {}}
    assert operator["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": "kuberay-operator"}


def test_the_namespace_is_capped_at_the_gpus_that_the_workers_may_have(
    resource: dict[str, Any], once: dict[str, dict[str, Any]]
) -> None:
    most = 0
    for group in groups(resource)[1:]:
        requests = group["template"]["spec"]["containers"][0]["resources"]["requests"]
        most += group["maxReplicas"] * int(requests.get("nvidia.com/gpu", 0))
    assert int(once["ResourceQuota"]["spec"]["hard"]["requests.nvidia.com/gpu"]) == most


def check(document: dict[str, Any]) -> None:
    """Check a document against the schema that Kubernetes has of it; unknown fields are refused."""
    kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="pip install kubernetes-validate")
    kubernetes_validate.validate(document, KUBERNETES, strict=True)


def as_pod(template: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "ray"}, **copy.deepcopy(template)}


def test_pods_are_valid_for_kubernetes(resource: dict[str, Any]) -> None:
    for group in groups(resource):
        check(as_pod(group["template"]))


def test_what_is_applied_once_is_valid_for_kubernetes(once: dict[str, dict[str, Any]]) -> None:
    assert set(once) == {"PersistentVolumeClaim", "ConfigMap", "NetworkPolicy", "ResourceQuota"}
    for document in once.values():
        check(document)


@pytest.mark.parametrize(("name", "value"), [("volumes", "shared"), ("container", []), ("restartPolicy", 1)])
def test_a_planted_error_in_a_pod_is_caught(rayjob: dict[str, Any], name: str, value: object) -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="pip install kubernetes-validate")
    pod = as_pod(groups(rayjob)[0]["template"])
    pod["spec"][name] = value
    with pytest.raises(kubernetes_validate.ValidationError):
        check(pod)
