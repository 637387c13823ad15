"""Lets compiled kernels run on torch's own threads.

numba's OpenMP layer takes the OpenMP library that is in the process's global scope, which is the one that torch has
brought along. Where it would bring a second library, whose threads would take turns with torch's, or where there is
none, kernels run on one thread.
"""

from __future__ import annotations

import ctypes
import functools
import logging

import numba
import numpy as np
import torch

from asynclm.engine.torch import kernels

log = logging.getLogger(__name__)

LAYER = "omp"
"""numba's name for OpenMP."""


@functools.cache
def can_share() -> bool:
    """Whether kernels can run on torch's threads; starts numba's layer, once in a process."""
    if not hasattr(ctypes.CDLL(None), "GOMP_parallel"):
        return False
    if numba.config.THREADING_LAYER == "default":
        numba.config.THREADING_LAYER = LAYER
    threads = torch.get_num_threads()
    try:
        kernels.touch(np.zeros(1, np.float32))
    except ValueError as error:  # no such layer here: libgomp is not installed
        log.info("kernels run on one thread: %s", error)
        return False
    finally:
        torch.set_num_threads(threads)  # which the layer has set to its own
    return bool(numba.threading_layer() == LAYER)


def follow_torch() -> None:
    """From now on, kernels that this thread calls run on as many threads as torch's operations do."""
    if can_share():
        numba.set_num_threads(min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS))
