"""Work on all cores: batches of images in processes of their own, and slices of one batch in threads.

Threads share all data but take turns in Python, which costs where a slice is hundreds of short NumPy calls; processes do not.
"""

import functools
import os
import pickle
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
from joblib import Parallel, cpu_count, delayed
from threadpoolctl import ThreadpoolController

from sdp import UserError

S, T = TypeVar("S"), TypeVar("T")
IMAGES = 32
"""Images at once: enough that calls cost little beside their work, few enough that tensors stay in the cache."""
_worker = threading.local()
_lock, _users, _limit = threading.Lock(), 0, None


class WorkerError(UserError):
    """A worker process that is gone."""


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="images", initializer=lambda: setattr(_worker, "busy", True))


@functools.cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController().select(user_api="blas")


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """The BLAS computes in the thread that calls it.

    Its own threads would compete with those of the pool, and wait for each other in busy loops: on busy cores many times slower.
    """
    global _users, _limit
    with _lock:
        _users += 1
        if _users == 1:
            _limit = _blas().limit(limits=1)
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if not _users:
                _limit.restore_original_limits()


def over_images(function: Callable[[slice], T], count: int, size: int = IMAGES) -> list[T]:
    """``function`` of slices of at most ``size`` images, in order; their sizes differ by one at most, so that no core waits long.

    Within ``function``, and in the processes of :func:`over_batches`, further calls are one slice after the other.
    """
    parts = max(1, -(-count // size))
    edges = [count * n // parts for n in range(parts + 1)]
    slices = [slice(begin, end) for begin, end in zip(edges, edges[1:])]
    if getattr(_worker, "busy", False):
        return [function(at) for at in slices]
    with one_blas_thread():
        return list(_pool().map(function, slices)) if parts > 1 else [function(slices[0])]


def over_batches(function: Callable[[S], T], batches: Iterable[S]) -> Iterator[T]:
    """``function`` of each batch, in order, in as many processes as there are cores; they start once and stay for later calls.

    Few batches are on their way at a time. ``function`` is pickled; what it raises is raised here.
    """
    pickled = pickle.dumps(function)
    try:
        yield from Parallel(cpu_count(), backend="loky", return_as="generator", batch_size=1, max_nbytes=None)(
            delayed(_in_process)(pickled, batch) for batch in batches)
    except BrokenProcessPool:
        raise WorkerError("a worker process was killed, perhaps for want of memory") from None


def _in_process(pickled: bytes, batch: S) -> T:
    _worker.busy = True
    with one_blas_thread():
        return _unpickled(pickled)(batch)


@functools.lru_cache(maxsize=2)
def _unpickled(pickled: bytes) -> Callable:
    """Once per process and function, so that what it makes once it makes once per process."""
    # Blocks up to the largest one that was freed, of 32 MiB at most, glibc keeps for use again: no new pages for every tensor.
    np.empty(30 << 20, dtype=np.uint8)
    return pickle.loads(pickled)
