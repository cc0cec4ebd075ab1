"""Late imports: transformers' own models, imported by the daemon once a worker has needed them.

Only some checkpoints (ModernBERT, DeBERTa, T5, ...) need `transformers.modeling_utils`, which takes as long to import
as torch does, so the daemon does not import it at its start. The first worker that needs it sets a flag in memory that
it shares with the daemon, and the daemon imports the module before its next fork. That fork waits for the import; each
later worker has its model loaded after 0.3 s instead of 5 s (a small ModernBERT or DeBERTa model, two cores).
"""

from __future__ import annotations

import gc
import mmap
import os
import sys
from importlib import import_module

MODULE = "transformers.modeling_utils"
_needed = mmap.mmap(-1, 1)


def report_to_daemon() -> None:
    """Set the flag if this worker's model needed the module. Call it in a worker after its model is loaded."""
    if MODULE in sys.modules:
        _needed[0] = 1


def import_before_forks() -> None:
    """Import the module before each fork once the flag is set. Call it in the daemon before its first fork."""
    os.register_at_fork(before=_import_if_needed)


def _import_if_needed() -> None:
    if _needed[0] and MODULE not in sys.modules:
        import_module(MODULE)
        gc.freeze()
