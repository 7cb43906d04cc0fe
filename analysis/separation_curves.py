"""Redraw what a sweep of separators says of separation against the rate (thesis, Figures 2, 7, 8 and 10) from MLflow.

python analysis/separation_curves.py [--experiment NAME] [--sweep ID] [--data SPEC] [--out DIR]
"""

import sys

from vaesweep.cli import analysis_script


def main() -> int:
    return analysis_script.redraw_report(__doc__, "rd_curve_vitasnet", "vaesweep.families.emd.analysis.report:report")


if __name__ == "__main__":
    sys.exit(main())
