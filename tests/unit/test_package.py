"""The package's import: public names, and no side effects."""

from __future__ import annotations

import subprocess
import sys

import pytest

import gliclass_spark


def test_importing_the_package_changes_no_environment_variable() -> None:
    program = "import os; before = dict(os.environ); import gliclass_spark; print(dict(os.environ) == before)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"


def test_an_unknown_name_raises_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'gliclass_spark' has no attribute 'engine_of_mine'"):
        gliclass_spark.engine_of_mine  # noqa: B018


def test_every_public_name_has_a_module() -> None:
    assert sorted(gliclass_spark._MODULES) == sorted(gliclass_spark.__all__)
