"""Families come in by entry points, anybody's as the built-in ones, and are imported when they are asked for."""

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from vaesweep.errors import UserError
from vaesweep.family import family, family_names, registry

ROOT = Path(__file__).parents[2]
BUILT_IN = {"pvae", "emd", "hvae"}
PLUGIN = """
    from vaesweep.families.pvae.family import PartialVaeFamily

    class Mine(PartialVaeFamily):
        name = "mine"

    FAMILY = Mine()
"""
COMMAND = """
    def register(commands):
        made = commands.add_parser("greet", help="say hello")
        made.set_defaults(act=lambda arguments: print("hello") or 0)
"""


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    """What a test installs is seen by it alone."""
    registry._references.cache_clear()
    family.cache_clear()
    yield
    registry._references.cache_clear()
    family.cache_clear()


def install(folder: Path, line: str, package: str = "pack", module: str = PLUGIN, **files: str) -> Path:
    """A distribution in `folder` as pip leaves it: a package with a `family` module, and one entry point."""
    (folder / package).mkdir(parents=True)
    for name, text in {"__init__": "", "family": module, **files}.items():
        (folder / package / f"{name}.py").write_text(textwrap.dedent(text))
    about = folder / f"{package}-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[vaesweep.families]\n{line}\n")
    return folder


def test_the_built_in_families_are_found_without_entry_points(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "entry_points", lambda group: ())
    assert set(family_names()) == BUILT_IN
    assert all(family(name).name == name for name in BUILT_IN)


def test_entry_points_of_the_project_name_the_families_in_its_folder() -> None:
    import tomllib

    points = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"][registry.GROUP]
    found = {name: registry._references()[name] for name in BUILT_IN}
    assert points == found


def test_no_family_is_imported_before_it_is_asked_for() -> None:
    code = (
        "import sys; from vaesweep.family import family, family_names; family_names(); family('pvae'); "
        "print(*sorted(name for name in sys.modules if name.startswith('vaesweep.families.') and name.count('.') == 2))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.split() == ["vaesweep.families.pvae"]


def test_a_family_that_is_one_module_says_which_data_it_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lone_module_of_mine.py").write_text(textwrap.dedent(PLUGIN))
    monkeypatch.syspath_prepend(str(install(tmp_path, "mine = lone_module_of_mine:FAMILY", "pack_of_nothing")))
    assert registry.data_forms("mine") == family("mine").data_forms


def test_a_family_of_another_package_comes_in_by_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(install(tmp_path, "mine = pack_of_mine.family:FAMILY", "pack_of_mine")))
    assert set(family_names()) == BUILT_IN | {"mine"}
    assert family("mine").example().domains


def test_a_family_brings_its_commands(tmp_path: Path) -> None:
    folder = install(tmp_path, "mine = pack.family:FAMILY", cli=COMMAND)
    code = f"import sys; sys.path.insert(0, {str(folder)!r}); from vaesweep.cli.main import main; sys.exit(main())"
    done = subprocess.run([sys.executable, "-c", code, "greet"], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout) == (0, "hello\n"), done.stderr


@pytest.mark.parametrize(
    ("line", "name", "complaint"),
    [
        ("pvae = pack.family:FAMILY", "pvae", "two families are called 'pvae'"),
        ("mine = pack.family:OTHER", "mine", "cannot be imported from pack.family:OTHER"),
        ("mine = no_such_package.family:FAMILY", "mine", "cannot be imported"),
        ("other = pack.family:FAMILY", "other", "is not a Family of that name"),
        ("mine = pack.family:FAMILY", "mind", "there is no family 'mind' \\(did you mean 'mine'\\?\\)"),
    ],
)
def test_what_cannot_be_a_family_is_named(
    line: str, name: str, complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(install(tmp_path, line)))
    for module in ("pack", "pack.family"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    with pytest.raises(UserError, match=complaint):
        family(name)


def test_a_package_whose_commands_cannot_be_imported_does_not_take_the_others_with_it(tmp_path: Path) -> None:
    folder = install(tmp_path, "mine = pack.family:FAMILY", cli="import no_such_module")
    code = f"import sys; sys.path.insert(0, {str(folder)!r}); from vaesweep.cli.main import main; sys.exit(main())"
    done = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0
    assert "acquire" in done.stdout
    assert "pack.cli: No module named 'no_such_module'" in done.stderr


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_the_kinds_of_data_are_known_without_the_family(name: str) -> None:
    assert registry.data_forms(name) == family(name).data_forms


def test_a_family_without_a_module_of_forms_is_asked_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(install(tmp_path, "mine = formless.family:FAMILY", "formless")))
    assert registry.data_forms("mine") == family("pvae").data_forms
