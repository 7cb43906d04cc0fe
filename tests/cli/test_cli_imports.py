"""Help pages, and the refusal of a wrong option, take a second: nothing slow is imported for them."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted(path for folder in ("sweeps", "analysis") for path in (ROOT / folder).glob("*.py"))
COMMANDS = [[], ["ui"], ["status"], ["register"], ["manifest"], ["acquire"], ["separate"], ["data"], ["data", "mix"]]
SLOW = ("torch", "ray", "mlflow", "matplotlib", "pandas", "sklearn", "scipy", "optuna")
# Each command line in one process after the other, then its exit code; and what has been imported meanwhile.
RUN = f"""
import runpy, sys

def code(start, words):
    sys.argv = words
    try:
        start()
    except SystemExit as end:
        return end.code

{{body}}
print("imported", *sorted(set({SLOW!r}) & set(sys.modules)))
"""


def printed(body: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", RUN.format(body=body)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: f"{script.parent.name}.{script.stem}")
def test_a_script_prints_its_help_and_refuses_a_wrong_option_without_slow_modules(script: Path) -> None:
    body = f"start = lambda: runpy.run_path({str(script)!r}, run_name='__main__')\n"
    body += "codes = [code(start, ['script', words]) for words in ('--help', '--no-such-option')]\nprint(*codes)"
    lines = printed(body)
    assert any(line.startswith("usage:") for line in lines)
    assert lines[-2:] == ["0 2", "imported"]


def test_no_subcommand_needs_slow_modules_to_print_its_help_or_to_refuse_an_option() -> None:
    lines = printed(
        "from vaesweep.cli.main import main\n"
        f"words = [['vaesweep', *words, option] for words in {COMMANDS} for option in ('--help', '--no-such-option')]\n"
        "print(*(code(main, line) for line in words))"
    )
    assert lines[-2:] == [" ".join(["0 2"] * len(COMMANDS)), "imported"]


def test_the_package_itself_imports_nothing_slow() -> None:
    assert printed("import vaesweep\nprint(callable(vaesweep.load))") == ["True", "imported"]


def test_a_preset_that_is_not_there_is_refused_without_slow_modules() -> None:
    script = str(ROOT / "sweeps" / "rd_curve_pvae.py")
    start = f"lambda: runpy.run_path({script!r}, run_name='__main__')"
    lines = printed(f"print(code({start}, ['script', '--preset', 'no']))")
    assert lines[-2:] == ["2", "imported"]
