"""OpenMP spinning: how long torch's idle threads poll before they sleep."""

from __future__ import annotations

import os

_SPIN_COUNT = "5000"


def limit_spinning() -> None:
    """Let torch's idle threads sleep early; call it before torch is imported.

    GNU's OpenMP polls 300,000 times before a thread that waits for the others sleeps. Where another process wants the
    same core, that polling takes the core from the work: a training is then ten times slower. On a machine with nothing
    else to do, 5,000 polls are as fast.

    Sets GOMP_SPINCOUNT, unless GOMP_SPINCOUNT or OMP_WAIT_POLICY is already set. OpenMP reads it once, when torch is
    imported; child processes inherit it.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", _SPIN_COUNT)
