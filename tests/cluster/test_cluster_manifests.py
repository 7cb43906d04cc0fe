"""The cluster folder checked offline: Ray's own validators read the files of clouds, and what must agree between all
files (Ray's version, the sweep's options, addresses, what is to be edited) is compared with the repository."""

from __future__ import annotations

import copy
import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from packaging.requirements import Requirement
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).resolve().parents[2]
CLUSTER = ROOT / "cluster"
FILES = sorted(path.name for path in CLUSTER.iterdir() if path.is_file())
CLOUDS = ["aws", "gcp"]
PAGES = sorted((ROOT / "docs").glob("cluster*.md"))
PACKAGE_INDEX_WORDS = ["--index-url", "--extra-index-url", "--find-links", "simple/", "/whl/", "/channels/"]
# Ray has no error class of its own for a bad file.
REFUSALS = (jsonschema.ValidationError, ValueError, TypeError, KeyError, AssertionError, NotImplementedError)


def text(name: str) -> str:
    return (CLUSTER / name).read_text(encoding="utf-8")


@pytest.fixture(params=CLOUDS)
def cloud(request: pytest.FixtureRequest) -> dict[str, Any]:
    return yaml.safe_load(text(f"{request.param}.yaml"))


def check(config: dict[str, Any]) -> dict[str, Any]:
    """What `ray up` does to the file before it calls the cloud."""
    prepared = prepare_config(copy.deepcopy(config))
    validate_config(prepared)
    return prepared


def assert_scales_from_zero(node_types: dict[str, Any], head: str) -> None:
    assert node_types[head]["resources"].get("GPU", 0) == 0, "the head offers a GPU"
    assert node_types[head]["resources"]["CPU"] == 0, "packs would run on the head"
    workers = {name: each for name, each in node_types.items() if name != head}
    assert any(each["resources"].get("GPU", 0) > 0 for each in workers.values()), "no worker has a GPU"
    for name, each in workers.items():
        assert each["min_workers"] == 0, f"{name} never scales to zero"
        assert each["max_workers"] > 0, f"{name} never starts"


def test_ray_accepts_the_file_and_workers_scale_from_zero(cloud: dict[str, Any]) -> None:
    config = check(cloud)
    assert_scales_from_zero(config["available_node_types"], config["head_node_type"])
    assert config["idle_timeout_minutes"] > 0
    assert config["provider"]["cache_stopped_nodes"] is False


def test_the_workers_of_all_types_are_capped(cloud: dict[str, Any]) -> None:
    workers = [kind for name, kind in cloud["available_node_types"].items() if name != cloud["head_node_type"]]
    assert cloud["max_workers"] <= sum(kind["max_workers"] for kind in workers)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["max_workers"], -1),
        (["idle_timeout_minutes"], "ten"),
        (["idle_timeout"], 10),
        (["provider"], {"region": "us-west-2"}),
        (["provider", "type"], "nowhere"),
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
def test_a_planted_error_is_caught(cloud: dict[str, Any], path: list[str], value: object) -> None:
    planted(cloud, path, value)
    with pytest.raises(REFUSALS):
        check(cloud)


def test_only_gpu_workers_are_gpu_machines_and_the_head_is_on_demand() -> None:
    for name, kind in yaml.safe_load(text("aws.yaml"))["available_node_types"].items():
        node = kind["node_config"]
        assert (node["InstanceType"][0] in "gp") == (kind["resources"].get("GPU", 0) > 0), name
        assert ("InstanceMarketOptions" in node) == (name != "head"), name
    for name, kind in yaml.safe_load(text("gcp.yaml"))["available_node_types"].items():
        node = kind["node_config"]
        assert node["machineType"].startswith("g2-") == (kind["resources"].get("GPU", 0) > 0), name
        assert (node.get("scheduling", {}).get("provisioningModel") == "SPOT") == (name != "head"), name


def test_machines_of_gcp_are_gone_for_good_when_they_go() -> None:
    for kind in yaml.safe_load(text("gcp.yaml"))["available_node_types"].values():
        assert all(disk["autoDelete"] for disk in kind["node_config"]["disks"])
        assert kind["node_config"].get("scheduling", {}).get("instanceTerminationAction", "DELETE") == "DELETE"


def test_nodes_of_gcp_are_instances_as_compute_engine_defines_them() -> None:
    schemas = compute_engine_schemas()
    for name, kind in yaml.safe_load(text("gcp.yaml"))["available_node_types"].items():
        assert list(faults_of(kind["node_config"], schemas["Instance"], schemas, name)) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["machine"], "n2-standard-4"),
        (["disks"], {"boot": True}),
        (["disks", 0, "initializeParams", "diskSize"], 150),
        (["disks", 0, "type"], "pd-ssd"),
        (["scheduling"], [{"preemptible": True}]),
        (["scheduling", "provisioningModel"], "CHEAP"),
        (["scheduling", "automaticRestart"], "no"),
        (["serviceAccounts", 0, "scope"], "storage"),
    ],
    ids=str,
)
def test_a_planted_error_in_a_node_of_gcp_is_caught(path: list[Any], value: object) -> None:
    schemas = compute_engine_schemas()
    node = yaml.safe_load(text("gcp.yaml"))["available_node_types"]["gpu_worker"]["node_config"]
    planted(node, path, value)
    assert list(faults_of(node, schemas["Instance"], schemas, "node"))


def test_nodes_of_aws_are_instances_as_ec2_defines_them() -> None:
    for name, kind in yaml.safe_load(text("aws.yaml"))["available_node_types"].items():
        assert ec2_faults(kind["node_config"]) == "", name


def test_a_planted_error_in_a_node_of_aws_is_caught() -> None:
    node = yaml.safe_load(text("aws.yaml"))["available_node_types"]["gpu_worker"]["node_config"]
    node["InstanceMarketOptions"] = {"Market": "spot"}
    assert "Market" in ec2_faults(node)


def planted(config: dict[str, Any], path: list[Any], value: object) -> None:
    """Put `value` at `path` of a configuration."""
    target: Any = config
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value


def compute_engine_schemas() -> dict[str, Any]:
    """Google's description of Compute Engine, as its Python client ships it."""
    client = pytest.importorskip("googleapiclient", reason="pip install google-api-python-client")
    folder = Path(client.__file__).parent / "discovery_cache" / "documents"
    return json.loads((folder / "compute.v1.json").read_text())["schemas"]


def faults_of(value: Any, schema: dict[str, Any], schemas: dict[str, Any], where: str) -> Iterator[str]:
    """Where `value` departs from a schema of a discovery document: unknown names, other types, other words."""
    schema = schemas[schema["$ref"]] if "$ref" in schema else schema
    kinds = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int, "number": (int, float)}
    if not isinstance(value, kinds[schema["type"]]):
        yield f"{where} is not of type {schema['type']}"
    elif "enum" in schema and value not in schema["enum"]:
        yield f"{where} is none of {schema['enum']}"
    elif isinstance(value, dict):
        known = schema.get("properties", {})
        for name, entry in value.items():
            if name in known:
                yield from faults_of(entry, known[name], schemas, f"{where}.{name}")
            elif "additionalProperties" not in schema:
                yield f"{where}.{name} is not known"
    elif isinstance(value, list):
        for index, entry in enumerate(value):
            yield from faults_of(entry, schema["items"], schemas, f"{where}.{index}")


def ec2_faults(node: dict[str, Any]) -> str:
    """What EC2's Python client would refuse of a node before it calls, in words; empty where there is nothing."""
    session = pytest.importorskip("botocore.session", reason="pip install boto3")
    validate = pytest.importorskip("botocore.validate")
    run = session.get_session().get_service_model("ec2").operation_model("RunInstances")
    report = validate.ParamValidator().validate({"MinCount": 1, "MaxCount": 1, **node}, run.input_shape)
    return report.generate_report()


def test_the_sync_leaves_results_and_history_behind_and_brings_tracking_home(cloud: dict[str, Any]) -> None:
    assert {"/results", ".git"} <= set(cloud["rsync_exclude"])
    # The list holds on the way down too: an unanchored name would drop files from inside results/.
    assert not {"results", "mlflow.db", "mlruns"} & set(cloud["rsync_exclude"])
    assert ".gitignore" in cloud["rsync_filter"]


def test_the_nodes_install_the_folder_they_are_sent(cloud: dict[str, Any]) -> None:
    (remote,) = [remote for remote, local in cloud["file_mounts"].items() if local == "."]
    assert any(command.startswith("pip install") and f"-e {remote}" in command for command in cloud["setup_commands"])


def test_ray_on_a_cloud_asks_for_a_token_that_no_file_here_holds(cloud: dict[str, Any]) -> None:
    options = cloud["docker"]["run_options"]
    assert "-e RAY_AUTH_MODE=token" in options
    (path,) = [word.removeprefix("-e RAY_AUTH_TOKEN_PATH=") for word in options if "TOKEN_PATH" in word]
    assert cloud["file_mounts"][path].startswith("~/")


@pytest.mark.parametrize("name", ["aws.yaml", "gcp.yaml", "Containerfile", "slurm.sh"])
def test_a_node_that_is_cut_off_is_asked_after_within_half_a_minute(name: str) -> None:
    (milliseconds,) = re.findall(r"RAY_grpc_client_keepalive_time_ms=(\d+)", text(name))
    assert int(milliseconds) <= 30_000


def entrypoint_and_documented_commands() -> list[list[str]]:
    """Each `python sweeps/….py …` of the RayJob, of the Slurm script and of the pages on clusters, as words."""
    entrypoint = yaml.safe_load(text("kuberay_rayjob.yaml"))["spec"]["entrypoint"]
    texts = [text("slurm.sh"), *(page.read_text(encoding="utf-8") for page in PAGES)]
    found = [re.findall(r"python (sweeps/\w+\.py[^\n\"'`]*)", re.sub(r"\\\n\s*", " ", content)) for content in texts]
    assert all(found[:2]), "no command in the Slurm script, or none in the first page"
    return [shlex.split(entrypoint)[1:], *(shlex.split(each) for commands in found for each in commands)]


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
            timeout=240,
            check=True,
        )
        known = set(re.findall(r"--[a-z][a-z-]*", done.stdout))
        used = {word for command in commands if command[0] == script for word in command if word.startswith("--")}
        assert used <= known, f"{script} does not know {sorted(used - known)}"


def test_one_ray_everywhere_and_in_the_range_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (ray,) = [each for each in map(Requirement, project["dependencies"]) if each.name == "ray"]
    named = set()
    for name in FILES:
        named |= set(re.findall(r"rayproject/ray:([\d.]+)-", text(name)))
        named |= set(re.findall(r"ray\[[\w,]+\]==([\d.]+)", text(name)))
        named |= set(re.findall(r'rayVersion: "([\d.]+)"', text(name)))
    (version,) = named
    assert ray.specifier.contains(version)


def test_images_have_a_python_that_the_project_supports() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    oldest = Requirement(f"python{project['requires-python']}").specifier
    tags = re.findall(r"rayproject/ray:[\d.]+-py3(\d+)", text("aws.yaml") + text("gcp.yaml") + text("Containerfile"))
    assert tags
    assert all(oldest.contains(f"3.{minor}") for minor in tags)


@pytest.mark.parametrize("name", FILES)
def test_no_package_index_and_no_path_of_one_machine_is_named(name: str) -> None:
    content = text(name)
    assert [each for each in PACKAGE_INDEX_WORDS if each in content] == []
    assert re.findall(r"(?<![\w./])/(?:work|root|Users|tmp)/", content) == []


def test_what_is_to_be_edited_is_explained() -> None:
    docs = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    for name in FILES:
        for token in set(re.findall(r"EDIT-[A-Z-]*[A-Z]", text(name))):
            assert token in docs, f"{name}: {token} is in no page on clusters"


@pytest.mark.parametrize("name", FILES)
def test_nothing_listens_on_all_interfaces_unless_told(name: str) -> None:
    content = text(name)
    assert not re.findall(r"0\.0\.0\.0|\[?::\]?(?=[:\s\"'])", content)
    hosts = re.findall(r"--(?:dashboard-)?host[= ](\S+)|dashboard-host: (\S+)|MLFLOW_HOST:-([\d.]+)", content)
    assert {host for found in hosts for host in found if host} <= {"127.0.0.1", '"$host"'}


@pytest.mark.parametrize("name", FILES)
def test_no_file_holds_a_credential(name: str) -> None:
    content = text(name)
    assert not re.findall(r"://[^\s/@$*]+:[^\s/@$*]+@", content), "a password in a URI"
    assert not re.findall(r"AKIA[0-9A-Z]{16}|-----BEGIN|gh[pousr]_\w{20}|\"private_key\"", content)
    assert not re.findall(r"(?i)(?:password|secret|token)[\"']?\s*[:=]\s*[\"']?[\w+/=-]{12,}(?![\w/(-])", content)
