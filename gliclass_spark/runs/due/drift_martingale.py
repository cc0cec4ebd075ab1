"""Conformal test martingales: evidence against exchangeable runs that may be looked at after every run.

If nothing changes, a run's rank among all runs so far is uniform, and independent of the earlier ranks. A martingale
bets on small ranks: by Ville's inequality its wealth ever reaches 1 / alpha with a probability of at most alpha,
however often it is looked at (Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World, section 7.1; for
retraining: arXiv 2102.10439).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

# Exponents of the power martingales that the bets are spread over: the smaller, the more is put on the first ranks.
_EXPONENTS = np.array([0.3, 0.6, 1.0])
# Share of the wealth that is spread over them again before each bet, so that a late change finds money on all of them.
_REDISTRIBUTED = 0.02
# Ranks among fewer runs say little, and no bet is made on them.
_FIRST_BET = 8


def wealth(series: Values) -> Values:
    """Return the wealth of martingales on each statistic after each run, (runs, 2 * statistics); each starts with 1.

    series: (runs, statistics), one row for each run, in order. The first half bets on rises, the second on falls. Each
    is a martingale for the ranks of its own statistic alone, so many of them are corrected for by Bonferroni's method.
    """
    both = np.concatenate([series, -series], axis=1)
    parts = np.full((both.shape[1], len(_EXPONENTS)), 1.0 / len(_EXPONENTS))
    total = np.ones(both.shape)
    for run in range(_FIRST_BET - 1, len(both)):
        parts = (1.0 - _REDISTRIBUTED) * parts + _REDISTRIBUTED * parts.mean(axis=1, keepdims=True)
        # Equal values share the last of their ranks, which wins least.
        ranks = (both[: run + 1] >= both[run]).sum(axis=0).astype(np.float64)
        parts = parts * _payoff(ranks[:, np.newaxis], run + 1)
        total[run] = parts.sum(axis=1)
    return total


def _payoff(ranks: Values, runs: int) -> Values:
    """Return what a bet of 1 wins at these ranks among the runs: 1 on average over all ranks.

    The mean of the power bet e p^(e - 1) over the p-values from (rank - 1) / runs to rank / runs.
    """
    payoff: Values = runs ** (1.0 - _EXPONENTS) * (ranks**_EXPONENTS - (ranks - 1.0) ** _EXPONENTS)
    return payoff
