"""Spinning is limited without importing torch, and only where the user set nothing."""

import os
import subprocess
import sys

import pytest

_CODE = """
import os, sys
from gliclass_spark.inference.openmp import limit_spinning
limit_spinning()
print(os.environ.get("GOMP_SPINCOUNT"), "torch" in sys.modules)
"""


@pytest.mark.parametrize(
    ("environment", "spin_count"),
    [({}, "5000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "None")],
    ids=["default", "own spin count", "own wait policy"],
)
def test_spinning_is_limited_without_torch_and_only_where_the_user_set_nothing(environment, spin_count):
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("GOMP_", "OMP_"))}
    result = subprocess.run(
        [sys.executable, "-c", _CODE],
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert result.stdout.split() == [spin_count, "False"]
