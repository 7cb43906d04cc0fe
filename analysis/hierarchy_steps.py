"""Redraw what a sweep of hierarchies says of steps after training (thesis, Figures 4 and 5) from MLflow.

python analysis/hierarchy_steps.py [--experiment NAME] [--sweep ID] [--data SPEC] [--out DIR]
"""

import sys

from vaesweep.cli import analysis_script


def main() -> int:
    return analysis_script.redraw_report(__doc__, "continuity_cdvae", "vaesweep.families.hvae.analysis.report:report")


if __name__ == "__main__":
    sys.exit(main())
