"""Images over all cores: every image once, in order, whatever happens on the way."""

import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from joblib import cpu_count
from threadpoolctl import threadpool_limits

from golden import parallel
from golden.parallel import WorkerError, one_blas_thread, over_batches, over_images
from sdp.program import Error, ProgramError


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


def seen(batch):
    """By which process, whether its slices stay in this thread, how many threads its BLAS has, and the batch; each fourth one takes longer."""
    time.sleep(0.02 * (batch % 4 == 0))
    here = threading.current_thread()
    alone = all(thread is here for thread in over_images(lambda _: threading.current_thread(), 8, 1))
    return os.getpid(), alone, {library["num_threads"] for library in parallel._blas().info()}, batch


def test_batches_in_processes():
    found = list(over_batches(seen, range(20)))
    assert [batch for *_, batch in found] == list(range(20))
    processes = {process for process, *_ in found}
    assert os.getpid() not in processes and len(processes) <= cpu_count()
    assert all(alone and blas == {1} for _, alone, blas, _ in found)
    # They have started once.
    assert {process for process, *_ in over_batches(seen, range(20))} <= processes or len(processes) < cpu_count()


def test_few_batches_are_on_their_way():
    taken = []
    results = over_batches(seen, (taken.append(n) or n for n in range(40 * cpu_count())))
    next(results)
    assert len(taken) < 20 * cpu_count()
    assert len(list(results)) == 40 * cpu_count() - 1


def fail(batch):
    if batch == 3:
        raise ProgramError(Error.ADDRESS, "layer 'a': beyond the end")
    return batch


def test_an_error_arrives_from_a_process():
    results = over_batches(fail, range(8))
    with pytest.raises(ProgramError, match="^ADDRESS: layer 'a': beyond the end$") as caught:
        list(results)
    assert caught.value.code is Error.ADDRESS
    assert list(over_batches(fail, range(3))) == [0, 1, 2]


def die(batch):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_process_is_one_sentence():
    with pytest.raises(WorkerError, match="^a worker process was killed, perhaps for want of memory$"):
        list(over_batches(die, range(4)))
    assert list(over_batches(fail, range(3))) == [0, 1, 2]


def test_an_interrupt_ends_all_processes():
    script = "import time; from golden.parallel import over_batches; next(over_batches(time.sleep, [0])); print(1, flush=True); " \
             "list(over_batches(time.sleep, [60] * 8))"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout.readline() == "1\n"
        time.sleep(0.5)
        os.killpg(process.pid, signal.SIGINT)
        # Workers hold the other end of the pipe: it ends with the last of them.
        _, said = process.communicate(timeout=20)
    assert process.returncode and said.rstrip().endswith("KeyboardInterrupt")
