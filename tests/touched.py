"""Print the test files that the uncommitted change (or the change since REV) touches: python tests/touched.py [REV]

A test file is touched when it has changed, or when it imports a changed module, directly or through others. The nearest
come first, and as many as are done within `SECONDS` going by their last times (`.pytest_cache`); the others are counted
on standard error, since they are left to `make test`.
"""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
TIMES = ROOT / ".pytest_cache" / "v" / "vaesweep" / "seconds"  # by test file, written by tests/conftest.py
SECONDS = 80.0  # of work: some 45 s on two cores, collection included
UNKNOWN = 3.0  # seconds of a file that has not run yet
FAR = 3  # imports between a test and a changed module, beyond which it is left out


def main() -> int:
    revision = sys.argv[1] if len(sys.argv) > 1 else "HEAD"
    changed = {path for path in changed_files(revision) if path.suffix == ".py" and (ROOT / path).exists()}
    chosen, left = within_budget(touched(changed))
    print(*chosen)
    if left:
        print(f"left to `make test`: {len(left)} more test files, {' '.join(left[:4])} …", file=sys.stderr)
    return 0


def changed_files(revision: str) -> set[Path]:
    """Files that differ from `revision`, those that git does not track yet among them."""
    commands = (["git", "diff", "--name-only", revision], ["git", "ls-files", "--others", "--exclude-standard"])
    lines = [subprocess.run(c, cwd=ROOT, capture_output=True, text=True, check=True).stdout for c in commands]
    return {Path(line) for text in lines for line in text.splitlines()}


def touched(changed: set[Path]) -> list[tuple[int, str]]:
    """(distance, test file) of every test file that a change is at most `FAR` imports away from."""
    files = [path.relative_to(ROOT) for folder in ("vaesweep", "tests") for path in (ROOT / folder).rglob("*.py")]
    names = {name: path for path in files for name in module_names(path)}
    imports = {path: {names[name] for name in imported(path) if name in names} for path in files}
    distance = dict.fromkeys(changed, 0)
    frontier = set(changed)
    for step in range(1, FAR + 1):
        frontier = {path for path in files if path not in distance and imports[path] & frontier}
        distance |= dict.fromkeys(frontier, step)
    return sorted((far, str(path)) for path, far in distance.items() if path.name.startswith("test_"))


def module_names(path: Path) -> Iterator[str]:
    """The names that import a file: dotted ones of the package, plain ones of the tests' helpers."""
    if path.parts[0] == "vaesweep":
        yield str(path.with_suffix("")).replace("/", ".").removesuffix(".__init__")
    else:
        yield path.stem


def imported(path: Path) -> Iterator[str]:
    """Modules that a file imports, and `package.name` of every `from package import name`, which may be a module."""
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def within_budget(files: list[tuple[int, str]]) -> tuple[list[str], list[str]]:
    """The nearest files that are done in time, and the others. A file that has changed itself always runs."""
    times = json.loads(TIMES.read_text()) if TIMES.exists() else {}
    chosen, left, spent = [], [], 0.0
    for distance, name in files:
        spent += times.get(name, UNKNOWN)
        (chosen if distance == 0 or spent <= SECONDS else left).append(name)
    return chosen, left


if __name__ == "__main__":
    raise SystemExit(main())
