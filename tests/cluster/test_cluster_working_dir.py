"""What `ray job submit --working-dir .` would upload: the code, small, without data, results, stores or secrets."""

import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest
from ray._private.ray_constants import get_runtime_env_default_excludes
from ray._private.runtime_env.packaging import create_package

ROOT = Path(__file__).parents[2]
LARGEST = 5 * 2**20  # bytes; Ray itself stops at 100 MiB
UNWANTED = (
    "results/rd_curve_pvae/cells/finished/1f0c.safetensors",
    "results/mlflow.db",
    "results_of_mine/cells.csv",
    "mlruns/0/meta.yaml",
    "mlflow-artifacts/1/sweep.json",
    "mlflow.db",
    "own.db",
    "own.db-wal",
    "own.db.1f0c.half-made",
    "results/tune_pvae/study.journal",
    "nhanes/AUX_I.XPT",
    "voices/84/121123/84-121123-0000.flac",
    "population.csv",
    "data/train.npy",
    ".env",
    ".env.production",
    ".netrc",
    ".aws/credentials",
    "google_credentials.json",
    "keys/server.pem",
    "keys/id_ed25519",
    "auth_token",
    "client_secret.json",
    ".venv/bin/python",
    ".git/config",
    "vaesweep/__pycache__/elbo.cpython-311.pyc",
)


def tracked(*folders: str) -> list[str]:
    listed = subprocess.run(["git", "ls-files", *folders], cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


@pytest.fixture(scope="module", params=[True, False], ids=["with .gitignore", "RAY_RUNTIME_ENV_IGNORE_GITIGNORE=1"])
def uploaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What Ray makes of a copy of the repository in which somebody has worked, by its own function."""
    folder, package = tmp_path_factory.mktemp("checkout"), tmp_path_factory.mktemp("package") / "package.zip"
    for name in [*tracked(), ".rayignore", ".gitignore"]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    for name in UNWANTED:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("not for others")
    create_package(str(folder), package, include_gitignore=request.param, excludes=get_runtime_env_default_excludes())
    return package


def test_the_upload_is_small_and_has_nothing_but_code(uploaded: Path) -> None:
    assert uploaded.stat().st_size < LARGEST
    names = set(zipfile.ZipFile(uploaded).namelist())
    assert not names & set(UNWANTED)
    assert not [name for name in names if "results" in Path(name).parts or name.endswith((".db", ".env"))]


def test_the_upload_has_all_that_sweeps_and_analyses_need(uploaded: Path) -> None:
    names = set(zipfile.ZipFile(uploaded).namelist())
    assert names >= set(tracked("vaesweep", "sweeps", "analysis", "pyproject.toml"))
    assert "vaesweep/data/domains.py" in names
