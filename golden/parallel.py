"""Images a few at a time, on all cores: NumPy lets other threads run while it computes."""

import functools
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from threadpoolctl import ThreadpoolController

T = TypeVar("T")
IMAGES = 16
"""Images at once: enough that calls cost little beside their work, few enough that most tensors stay in a core's cache."""
_worker = threading.local()
_lock, _users, _limit = threading.Lock(), 0, None


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

    Within ``function``, further calls are one slice after the other.
    """
    parts = max(1, -(-count // size))
    edges = [count * n // parts for n in range(parts + 1)]
    slices = [slice(begin, end) for begin, end in zip(edges, edges[1:])]
    if getattr(_worker, "busy", False):
        return [function(at) for at in slices]
    with one_blas_thread():
        return list(_pool().map(function, slices)) if parts > 1 else [function(slices[0])]
