"""What one forked worker had to import, the next one finds."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import os, sys
from gliclass_spark.spark.worker import late_imports

def worker(needs):
    child = os.fork()
    if child == 0:
        print(needs, late_imports.MODULE in sys.modules, flush=True)
        if needs:
            __import__(late_imports.MODULE)
        late_imports.tell_daemon()
        os._exit(0)
    os.waitpid(child, 0)

late_imports.share_with_workers()
for needs in (False, True, True):
    worker(needs)
"""


def test_a_worker_finds_what_an_earlier_one_had_to_import_and_nothing_before_that() -> None:
    told = subprocess.check_output([sys.executable, "-c", PROGRAM], text=True).split("\n")
    assert told == ["False False", "True False", "True True", ""]
