"""The rooms import downwards only, and what stands below the sweep loads neither Ray nor MLflow."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LOADED = "import sys, {module}; print(*sorted({{'ray', 'mlflow'}} & set(sys.modules)))"


def test_the_contracts_of_pyproject_are_kept() -> None:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()", "--no-cache"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert found.returncode == 0, found.stdout + found.stderr
    assert "0 broken" in found.stdout


@pytest.mark.parametrize("module", ["vaesweep.family", "vaesweep.training.loop", "vaesweep.rates"])
def test_a_family_trains_without_ray_and_without_mlflow(module: str) -> None:
    command = [sys.executable, "-c", LOADED.format(module=module)]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert found.returncode == 0, found.stderr
    assert found.stdout.split() == []


def test_nothing_imports_torchaudio() -> None:
    """Resampling is SciPy's (docs/data.md), so that sounds are read where torchaudio is not."""
    imported: set[str] = set()
    for path in (ROOT / "vaesweep").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported.add(node.module.partition(".")[0])
    assert {"scipy", "soundfile", "pyroomacoustics"} <= imported
    assert not imported & {"torchaudio", "soxr", "librosa"}
