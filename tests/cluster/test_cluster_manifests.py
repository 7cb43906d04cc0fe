"""The cluster folder checked offline: Ray's own validators read the manifests, and what must agree between
them (Ray's version, the sweep's options, the files copied) is compared with the repository."""

from __future__ import annotations

import copy
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from packaging.requirements import Requirement
from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).resolve().parents[2]
CLUSTER = ROOT / "cluster"
MANIFESTS = ["aws.yaml", "kuberay_rayjob.yaml", "kuberay_storage.yaml", "Containerfile", "mlflow_server.sh"]
PACKAGE_INDEX_WORDS = ["--index-url", "--extra-index-url", "--find-links", "simple/", "/whl/", "/channels/"]
# Ray has no error class of its own for a bad file.
REFUSALS = (jsonschema.ValidationError, ValueError, TypeError, KeyError, AssertionError, NotImplementedError)


def text(name: str) -> str:
    return (CLUSTER / name).read_text(encoding="utf-8")


@pytest.fixture
def aws() -> dict[str, Any]:
    return yaml.safe_load(text("aws.yaml"))


@pytest.fixture
def rayjob() -> dict[str, Any]:
    return yaml.safe_load(text("kuberay_rayjob.yaml"))


def check_aws(config: dict[str, Any]) -> dict[str, Any]:
    """What `ray up` does to the file before it calls AWS."""
    prepared = prepare_config(copy.deepcopy(config))
    validate_config(prepared)
    return prepared


def check_rayjob(job: dict[str, Any]) -> dict[str, Any]:
    """What the autoscaler beside the head reads from the cluster that the operator makes."""
    cluster = {
        "metadata": {"name": "vaesweep", "namespace": "default"},
        "spec": job["spec"]["rayClusterSpec"],
    }
    return _derive_autoscaling_config_from_ray_cr(cluster)


def pods(job: dict[str, Any]) -> list[dict[str, Any]]:
    spec = job["spec"]["rayClusterSpec"]
    return [group["template"]["spec"] for group in [spec["headGroupSpec"], *spec["workerGroupSpecs"]]]


def assert_scales_from_zero(node_types: dict[str, Any], head: str) -> None:
    assert node_types[head]["resources"].get("GPU", 0) == 0, "the head offers a GPU"
    assert node_types[head]["resources"]["CPU"] == 0, "packs would run on the head"
    workers = {name: each for name, each in node_types.items() if name != head}
    assert any(each["resources"].get("GPU", 0) > 0 for each in workers.values()), "no worker has a GPU"
    for name, each in workers.items():
        assert each["min_workers"] == 0, f"{name} never scales to zero"
        assert each["max_workers"] > 0, f"{name} never starts"


def test_ray_accepts_the_aws_file_and_workers_scale_from_zero(aws: dict[str, Any]) -> None:
    config = check_aws(aws)
    assert_scales_from_zero(config["available_node_types"], config["head_node_type"])
    assert config["idle_timeout_minutes"] > 0
    assert config["provider"]["cache_stopped_nodes"] is False


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["max_workers"], -1),
        (["idle_timeout_minutes"], "ten"),
        (["idle_timeout"], 10),
        (["provider"], {"region": "us-west-2"}),
        (["provider", "type"], "awss"),
        (["docker", "imagee"], "x"),
        (["auth", "user"], "ubuntu"),
        (["head_node_type"], "nowhere"),
        (["available_node_types", "gpu_worker", "min_workers"], "none"),
        (["available_node_types", "gpu_worker", "min_workers"], 9),
        (["available_node_types", "gpu_worker", "gpus"], 1),
        (["available_node_types", "gpu_worker", "resources"], "GPU"),
        (["setup_commands"], "pip install ."),
    ],
    ids=lambda value: ".".join(value) if isinstance(value, list) else repr(value),
)
def test_a_planted_error_in_the_aws_file_is_caught(aws: dict[str, Any], path: list[str], value: object) -> None:
    target = aws
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    with pytest.raises(REFUSALS):
        check_aws(aws)


def test_only_gpu_workers_are_gpu_instances_and_the_head_is_on_demand(aws: dict[str, Any]) -> None:
    for name, node_type in aws["available_node_types"].items():
        family = node_type["node_config"]["InstanceType"][0]
        assert (family in "gp") == (node_type["resources"].get("GPU", 0) > 0), name
    assert "InstanceMarketOptions" not in aws["available_node_types"]["head"]["node_config"]


def test_the_aws_sync_leaves_results_and_history_behind_and_brings_tracking_home(aws: dict[str, Any]) -> None:
    assert {"/results", ".git"} <= set(aws["rsync_exclude"])
    # The list holds on the way down too: an unanchored name would drop files from inside results/.
    assert not {"results", "mlflow.db", "mlruns"} & set(aws["rsync_exclude"])
    assert ".gitignore" in aws["rsync_filter"]


def test_the_aws_nodes_install_the_folder_they_are_sent(aws: dict[str, Any]) -> None:
    (remote,) = [remote for remote, local in aws["file_mounts"].items() if local == "."]
    assert any(command.startswith("pip install") and f"-e {remote}" in command for command in aws["setup_commands"])


def test_the_autoscaler_reads_the_rayjob_and_workers_scale_from_zero(rayjob: dict[str, Any]) -> None:
    assert (rayjob["apiVersion"], rayjob["kind"]) == ("ray.io/v1", "RayJob")
    assert rayjob["spec"]["shutdownAfterJobFinishes"] is True
    assert rayjob["spec"]["rayClusterSpec"]["enableInTreeAutoscaling"] is True
    config = check_rayjob(rayjob)
    assert_scales_from_zero(config["available_node_types"], config["head_node_type"])


def test_a_worker_group_without_cpus_is_caught(rayjob: dict[str, Any]) -> None:
    group = rayjob["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]
    group["template"]["spec"]["containers"][0]["resources"] = {}
    with pytest.raises(ValueError, match="CPU"):
        check_rayjob(rayjob)


def test_every_pod_runs_one_image_without_root_and_mounts_the_shared_volume(rayjob: dict[str, Any]) -> None:
    claims = {each["metadata"]["name"] for each in yaml.safe_load_all(text("kuberay_storage.yaml"))}
    images = set()
    for pod in pods(rayjob):
        (container,) = pod["containers"]
        images.add(container["image"])
        assert pod["securityContext"]["runAsUser"] != 0
        assert pod["volumes"][0]["persistentVolumeClaim"]["claimName"] in claims
        assert container["volumeMounts"][0]["mountPath"] == "/shared"
        assert container["resources"]["requests"]
    assert len(images) == 1


def test_mlflow_is_told_to_the_driver_by_reference(rayjob: dict[str, Any]) -> None:
    head, *workers = (pod["containers"][0] for pod in pods(rayjob))
    (variable,) = [each for each in head["env"] if each["name"] == "MLFLOW_TRACKING_URI"]
    reference = variable["valueFrom"]["configMapKeyRef"]
    maps = {each["metadata"]["name"]: each for each in yaml.safe_load_all(text("kuberay_storage.yaml"))}
    assert reference["key"] in maps[reference["name"]]["data"]
    assert not any("env" in worker for worker in workers), "workers do not write to MLflow"


def entrypoint_and_documented_commands() -> list[list[str]]:
    """Each `python sweeps/rd_curve_pvae.py …` of the manifest and of docs/cluster.md, as words."""
    entrypoint = yaml.safe_load(text("kuberay_rayjob.yaml"))["spec"]["entrypoint"]
    docs = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8").replace("\\\n", " ")
    found = re.findall(r"python (sweeps/\w+\.py[^\n\"`]*)", docs)
    return [shlex.split(entrypoint)[1:], *(shlex.split(each) for each in found)]


def test_the_sweep_that_the_job_runs_exists_and_knows_its_options() -> None:
    commands = entrypoint_and_documented_commands()
    assert len(commands) > 1
    for script in {command[0] for command in commands}:
        assert (ROOT / script).is_file(), script
        done = subprocess.run(
            [sys.executable, script, "--help"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        known = set(re.findall(r"--[a-z][a-z-]*", done.stdout))
        used = {word for command in commands if command[0] == script for word in command if word.startswith("--")}
        assert used <= known, f"{script} does not know {sorted(used - known)}"


def test_results_of_the_job_go_to_the_shared_volume(rayjob: dict[str, Any]) -> None:
    words = shlex.split(rayjob["spec"]["entrypoint"])
    for option in ("--out", "--storage"):
        assert words[words.index(option) + 1].startswith("/shared/")


def test_one_ray_everywhere_and_in_the_range_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (ray,) = [each for each in map(Requirement, project["dependencies"]) if each.name == "ray"]
    named = set()
    for name in MANIFESTS:
        named |= set(re.findall(r"rayproject/ray:([\d.]+)-", text(name)))
        named |= set(re.findall(r"ray\[[\w,]+\]==([\d.]+)", text(name)))
        named |= set(re.findall(r'rayVersion: "([\d.]+)"', text(name)))
    (version,) = named
    assert ray.specifier.contains(version)


def test_images_have_a_python_that_the_project_supports() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    oldest = Requirement(f"python{project['requires-python']}").specifier
    tags = re.findall(r"rayproject/ray:[\d.]+-py3(\d+)", text("aws.yaml") + text("Containerfile"))
    assert tags
    assert all(oldest.contains(f"3.{minor}") for minor in tags)


def test_the_container_copies_files_that_exist_and_does_not_end_as_root() -> None:
    lines = text("Containerfile").splitlines()
    sources = [
        word for line in lines if line.startswith("COPY") for word in line.split()[1:-1] if not word.startswith("--")
    ]
    assert "pyproject.toml" in sources
    assert [each for each in sources if not (ROOT / each).exists()] == []
    users = [line.split()[1] for line in lines if line.startswith("USER")]
    assert users
    assert users[-1] not in {"root", "0"}


@pytest.mark.parametrize("name", MANIFESTS)
def test_no_package_index_and_no_path_of_one_machine_is_named(name: str) -> None:
    content = text(name)
    assert [each for each in PACKAGE_INDEX_WORDS if each in content] == []
    assert re.findall(r"(?<![\w./])/(?:work|root|Users|tmp)/", content) == []


def test_what_is_to_be_edited_is_explained() -> None:
    docs = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
    for name in MANIFESTS:
        for token in set(re.findall(r"EDIT-[A-Z-]*[A-Z]", text(name))):
            assert token in docs, f"{name}: {token} is not in docs/cluster.md"


@pytest.mark.parametrize("script", sorted(each.name for each in CLUSTER.glob("*.sh")))
def test_shell_files_parse(script: str) -> None:
    subprocess.run(["bash", "-n", str(CLUSTER / script)], check=True)
