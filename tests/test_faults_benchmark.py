"""The fault table's script runs, and its rows say that nothing was lost or written twice."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FAULTS = ("finished file: a bit flipped", "checkpoint: a NaN", "a worker dies")


@pytest.mark.slow
def test_three_faults_lose_nothing_and_are_put_into_the_page(tmp_path: Path) -> None:
    page = tmp_path / "faults.md"
    page.write_text("before\n<!-- files: by benchmarks/faults.py -->\nold\n<!-- end of files -->\nafter\n")
    words = ["--quick", "--only", *FAULTS, "--out", str(page)]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "faults.py"), *words],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    rows = [
        re.split(r" \| ", line.strip("| ")) for line in text.splitlines() if re.match(r"\| (finished|check|a w)", line)
    ]
    assert len(rows) == len(FAULTS)
    for (name, times, lost, again, duplicated, _, code, _), fault in zip(rows, FAULTS, strict=True):
        assert name.startswith(fault)
        assert (times, lost, duplicated, code) == ("1", "0", "0", "0"), name
        steps, of_all = re.match(r"([\d.]+) .* of (\d+)$", again).groups()  # type: ignore[union-attr]
        assert 0 < float(steps) < int(of_all), name
