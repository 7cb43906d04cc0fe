"""README and docs name no file, module or script that is gone, and the examples of the extending page run."""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
EXTENDING = (ROOT / "docs" / "extending.md").read_text()
EXAMPLES = dict(re.findall(r"^`([\w/]+\.py)`:\n\n```python\n(.*?)^```", EXTENDING, re.S | re.M))
CODE = re.compile(r"`([^`\n]+)`")
PATH = re.compile(
    r"(?:vaesweep|sweeps|analysis|cluster|tests|benchmarks|docs|families|family|sweep|training)/[\w/.]*\w"
)
DOTTED = re.compile(r"vaesweep(?:\.\w+)+")
ENTRY_POINT = re.search(r'^linear = "linear\.family:FAMILY"$', EXTENDING, re.M)


def pages() -> list[tuple[str, str]]:
    return [(page.name, page.read_text()) for page in PAGES]


@pytest.mark.parametrize(("page", "text"), pages(), ids=[page.name for page in PAGES])
def test_every_path_that_is_named_exists(page: str, text: str) -> None:
    named = {path for code in CODE.findall(text) for path in PATH.findall(code) if not code.startswith("http")}
    named |= set(re.findall(r"python ((?:sweeps|analysis|benchmarks)/\w+\.py)", text))
    named -= {path for path in named if path in EXAMPLES or not re.search(r"\.(py|sh|yaml|md|toml)$", path)}
    missing = [path for path in named if not any((base / path).exists() for base in (ROOT, ROOT / "vaesweep"))]
    assert not missing, page


@pytest.mark.parametrize(("page", "text"), pages(), ids=[page.name for page in PAGES])
def test_every_module_and_name_of_the_package_that_is_named_exists(page: str, text: str) -> None:
    ours = {name for name in DOTTED.findall(text) if not is_tag(name)}
    missing = [name for name in ours if not resolves(name)]
    assert not missing, page


@pytest.mark.parametrize(("page", "text"), pages(), ids=[page.name for page in PAGES])
def test_every_link_to_a_file_leads_somewhere(page: str, text: str) -> None:
    folder = ROOT if (ROOT / page).exists() else ROOT / "docs"
    links = re.findall(r"\]\((?!https?:)([^)#\s]+)", text)
    assert not [link for link in links if not (folder / link).resolve().exists()]


def is_tag(name: str) -> bool:
    """Tags of runs and the entry points' group look like modules and are none."""
    from vaesweep.vocabulary import Tag

    return name in set(Tag) or name == "vaesweep.git"


def resolves(name: str) -> bool:
    """Whether a dotted name is a module, or an attribute of one."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:length]))
        except ImportError:
            continue
        for attribute in parts[length:]:
            if not hasattr(found, attribute):
                return False
            found = getattr(found, attribute)
        return True
    return False


# --- the extending page -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page's examples where it says that they belong, with the family installed as pip would leave it."""
    assert ENTRY_POINT
    folder = tmp_path_factory.mktemp("checkout")
    for name, text in EXAMPLES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "linear" / "__init__.py").write_text("")
    about = folder / "linear-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: linear\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[vaesweep.families]\n{ENTRY_POINT[0].replace(chr(34), '')}\n")
    return folder


def run(checkout: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(checkout), str(ROOT)]), "COLUMNS": "200"}
    environment.pop("MLFLOW_TRACKING_URI", None)
    return subprocess.run(
        [sys.executable, *words], cwd=checkout, env=environment, capture_output=True, text=True, timeout=300
    )


@pytest.mark.parametrize("script", ["beta_pvae", "beta_linear"])
def test_the_sweeps_of_the_page_can_be_planned(checkout: Path, script: str) -> None:
    done = run(checkout, f"sweeps/{script}.py", "--plan")
    assert done.returncode == 0, done.stderr
    assert f"{script}: {20 if script == 'beta_pvae' else 10} cells, 0 done" in done.stdout


def test_the_family_of_the_page_keeps_the_contract(checkout: Path) -> None:
    done = run(checkout, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(ROOT / "tests" / "family"), "-k", "linear")
    assert done.returncode == 0, done.stdout[-3000:]
    assert " passed" in done.stdout


def test_the_data_set_of_the_page_is_read(checkout: Path) -> None:
    code = f"""
import importlib.util, numpy as np
spec = importlib.util.spec_from_file_location("npy", {str(checkout / "vaesweep/families/pvae/data/npy.py")!r})
npy = importlib.util.module_from_spec(spec); spec.loader.exec_module(npy)
from pathlib import Path
from vaesweep.data.domains import Role
np.save("clinic.npy", np.random.default_rng(0).uniform(0, 60, size=(200, 15)).round())
loaded = npy.training(Path("clinic.npy"), 0)
print(*sorted(domain.name for domain in loaded.domains))
"""
    done = run(checkout, "-c", code)
    assert done.stdout.split() == ["clinic.test", "clinic.train", "clinic.valid"], done.stderr
