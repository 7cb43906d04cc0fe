"""Stochastic differential equations over unit depth: Brownian paths, solvers, latent pairs, memory, adaptive steps.

All are functions of tensors; random numbers come from outside. Fields are pure functions of explicit tensors (`terms`);
`solve` integrates them with a solver of `SOLVERS`, and `adaptive` with steps as small as a tolerance asks for.
"""

from vaesweep.sde.adaptive import AdaptiveSolution, adaptive, path_increments
from vaesweep.sde.brownian import coarsen, increments, refine
from vaesweep.sde.checkpoint import recomputed
from vaesweep.sde.latent import Drift, Drifts, log_ratio, posterior_sde, prior_sde
from vaesweep.sde.solve import Solution, solve
from vaesweep.sde.solvers import SOLVERS, Carry, Orders, Solver
from vaesweep.sde.terms import Field, Sde, Tensors, Terms

__all__ = [
    "SOLVERS",
    "AdaptiveSolution",
    "Carry",
    "Drift",
    "Drifts",
    "Field",
    "Orders",
    "Sde",
    "Solution",
    "Solver",
    "Tensors",
    "Terms",
    "adaptive",
    "coarsen",
    "increments",
    "log_ratio",
    "path_increments",
    "posterior_sde",
    "prior_sde",
    "recomputed",
    "refine",
    "solve",
]
