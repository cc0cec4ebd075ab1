"""Late imports: a module that a forked worker needed is imported for later workers."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import os, sys
from gliclass_spark.spark.worker import late_imports

def worker(needs):
    child = os.fork()
    if child == 0:
        print(needs, late_imports.MODULE in sys.modules, flush=True)
        if needs:
            __import__(late_imports.MODULE)
        late_imports.report_to_daemon()
        os._exit(0)
    os.waitpid(child, 0)

late_imports.import_before_forks()
for needs in (False, True, True):
    worker(needs)
"""


@pytest.mark.long
def test_a_module_that_a_worker_needed_is_imported_for_later_workers_only() -> None:
    lines = subprocess.check_output([sys.executable, "-c", PROGRAM], text=True).split("\n")
    assert lines == ["False False", "True False", "True True", ""]
