"""transformers' own models, which only some checkpoints need: imported by the first worker, shared by those after it.

To import them takes longer than to import torch, so a daemon that forks workers does not do it beforehand. The first
worker that needed them says so in memory that it shares with the daemon, which then imports them before its next fork.
"""

from __future__ import annotations

import gc
import mmap
import os
import sys
from importlib import import_module

MODULE = "transformers.modeling_utils"
_needed = mmap.mmap(-1, 1)


def tell_daemon() -> None:
    """In a worker, once its model is loaded."""
    if MODULE in sys.modules:
        _needed[0] = 1


def share_with_workers() -> None:
    """In the daemon, before its first fork."""
    os.register_at_fork(before=_import_if_needed)


def _import_if_needed() -> None:
    if _needed[0] and MODULE not in sys.modules:
        import_module(MODULE)
        gc.freeze()
