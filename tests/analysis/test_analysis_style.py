"""A figure looks the same whatever a user's own settings of Matplotlib say, and leaves them as they are."""

import ast
from pathlib import Path

import matplotlib
import numpy as np
import pytest

from vaesweep.analysis import style

PACKAGE = Path(__file__).parents[2] / "vaesweep"
ODD = [{"font.size": 30, "axes.facecolor": "black"}, {"lines.linewidth": 9, "savefig.dpi": 30}, {"text.color": "red"}]


@style.plain()
def draw(path: Path) -> None:
    """A page with an axis, a line and a legend."""
    figure = style.page(3, 2, "title")
    axis = figure.subplots()
    axis.plot(np.arange(3), label="line")
    axis.legend()
    style.save(figure, path)


@pytest.mark.parametrize("settings", ODD)
def test_a_figure_is_the_same_with_a_users_settings(settings: dict[str, object], tmp_path: Path) -> None:
    draw(tmp_path / "plain.png")
    with matplotlib.rc_context(settings):
        draw(tmp_path / "odd.png")
        assert all(matplotlib.rcParams[name] == value for name, value in settings.items())
    assert (tmp_path / "plain.png").read_bytes() == (tmp_path / "odd.png").read_bytes()


def test_everything_that_draws_into_a_file_does_so_in_this_style() -> None:
    drawn = 0
    for file in PACKAGE.rglob("*.py"):
        for node in ast.parse(file.read_text("utf-8")).body:
            if not isinstance(node, ast.FunctionDef) or "path" not in [one.arg for one in node.args.args]:
                continue
            if node.name.startswith("draw_"):
                drawn += 1
                assert any("plain" in ast.unparse(one) for one in node.decorator_list), f"{file}: {node.name}"
    assert drawn > 20
