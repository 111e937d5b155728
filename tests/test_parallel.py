"""Images over all cores: every image once, in order, whatever happens on the way."""

import threading

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from golden import parallel
from golden.parallel import one_blas_thread, over_images


@pytest.mark.parametrize("count, size", [(0, 4), (1, 4), (4, 4), (5, 4), (33, 16), (7, 1)])
def test_every_image_once_and_in_order(count, size):
    parts = over_images(lambda at: np.arange(count)[at], count, size)
    assert np.concatenate(parts).tolist() == list(range(count))
    assert max(map(len, parts)) <= size and max(map(len, parts)) - min(map(len, parts)) <= 1


def test_calls_within_run_where_they_are():
    """A pool whose workers wait for each other would never end."""
    def outer(at):
        here = threading.current_thread()
        return [here is thread for thread in over_images(lambda _: threading.current_thread(), 8, 1)]

    assert over_images(outer, 16, 1) == [[True] * 8] * 16


def test_an_error_arrives_and_the_blas_gets_its_threads_back():
    def threads():
        return [library["num_threads"] for library in parallel._blas().info()]

    def fail(at):
        assert threads() == [1] * len(before)
        raise KeyError(at.start)

    with threadpool_limits(2, user_api="blas"):
        before = threads()
        assert before and set(before) == {2}
        for count in (1, 40):
            with pytest.raises(KeyError, match="^0$"):
                over_images(fail, count)
            assert threads() == before
        with one_blas_thread(), one_blas_thread():
            assert threads() == [1] * len(before)
        assert threads() == before
