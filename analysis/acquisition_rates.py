"""Redraw what a sweep says of acquisition against the rate (thesis, Figures 6 and 8 to 10) from MLflow.

python analysis/acquisition_rates.py [--experiment NAME] [--sweep ID] [--data SPEC] [--out DIR]
"""

import sys

from vaesweep.cli import analysis_script


def main() -> int:
    return analysis_script.redraw_report(__doc__, "acquisition_pvae", "vaesweep.families.pvae.analysis.report:report")


if __name__ == "__main__":
    sys.exit(main())
