"""Independent work in processes of one thread each.

A small model's operations are too short to be shared among threads: two processes of one thread train
nearly twice as many tokens a second as one process of two. One thread everywhere also makes sums, and so
results, the same whatever the number of cores.
"""

import dataclasses
import itertools
import os
import re
import threading
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any, Generic, TypeVar

from sbp_bayes.base.config import require
from sbp_bayes.base.errors import WorkerError
from sbp_bayes.base.progress import Remote, show_event, stop_showing, use_display, works_of_others
from sbp_bayes.base.runtime import configure_runtime

T = TypeVar("T")

ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"), "1"
)


def usable_cores() -> int:
    """Return how many cores this process may use: of its affinity, of its container's quota
    (`docker --cpus`), and of LOKY_MAX_CPU_COUNT where that is set.
    """
    import loky

    return int(loky.cpu_count())


@dataclasses.dataclass(frozen=True)
class Task(Generic[T]):
    """A call that waits for others.

    Attributes:
        call: picklable.
        needs: names of the tasks that must be done before; those that are not asked for are left out.
    """

    call: Callable[[], T]
    needs: tuple[Hashable, ...] = ()


def in_order_of_need(tasks: Mapping[Hashable, Task[T]], num_workers: int | None = None) -> dict[Hashable, T]:
    """Return each task's result, by name, from at most `num_workers` processes of one thread each.

    A task begins when those that it needs are done; of several that could, the one named first.

    Args:
        tasks: by name, without circles.
        num_workers: the usable cores by default. With 1, or a single task, this process does the work.

    Raises:
        WorkerError: a process was ended from outside.
        Exception: what the first failing task raised; the others are stopped.
    """
    num_workers = min(num_workers or usable_cores(), len(tasks))
    waiting = {name: {need for need in task.needs if need in tasks} for name, task in tasks.items()}
    results: dict[Hashable, T] = {}
    running: dict[Future[T], Hashable] = {}
    with worker_pool(max(1, num_workers)) as pool:
        while len(results) < len(tasks):
            ready = [name for name, needs in waiting.items() if needs <= results.keys()]
            assert ready or running, f"tasks that wait for one another: {list(waiting)}"
            for name in ready[: num_workers - len(running)]:
                del waiting[name]
                running[pool.submit(tasks[name].call)] = name
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                results[running.pop(future)] = future.result()
    return {name: results[name] for name in tasks}


def side_by_side(
    calls: Sequence[Callable[[], T]],
    num_workers: int | None = None,
    on_done: Callable[[T], None] = lambda result: None,
) -> list[T]:
    """Return each call's result, in order, from at most `num_workers` processes of one thread each.

    Args:
        calls: picklable, and independent of each other.
        num_workers: the usable cores by default. With 1, or a single call, this process does the work.
        on_done: is told each result as it comes, in no order; what it raises stops the work.

    Raises:
        WorkerError: a process was ended from outside.
        Exception: what the first failing call raised; the others are stopped.
    """
    num_workers = min(num_workers or usable_cores(), len(calls))
    if num_workers == 0:
        return []
    with worker_pool(num_workers) as pool:
        futures: dict[Future[T], int] = {}
        results: dict[int, T] = {}
        waiting = iter(enumerate(calls))
        while len(results) < len(calls):
            for i, call in itertools.islice(waiting, 1 if num_workers == 1 else None):
                futures[pool.submit(call)] = i
            for future in wait(futures, return_when=FIRST_COMPLETED).done:
                i = futures.pop(future)
                results[i] = future.result()
                on_done(results[i])
        return [results[i] for i in range(len(calls))]


@contextmanager
def worker_pool(num_workers: int) -> Iterator[Executor]:
    """Yield an executor of `num_workers` processes of one thread each; on leaving, they are stopped.

    Their progress is shown by this process, and they end with it, however it ends. With one worker the
    calls run in this process, one after the other as they are submitted.

    Raises:
        WorkerError: a process was ended from outside while the block waited for its result.
    """
    require(num_workers >= 1, "num_workers", num_workers, "at least 1")
    if num_workers == 1:
        with one_thread():
            yield _InThisProcess()
        return
    from loky import ProcessPoolExecutor
    from loky.backend import get_context
    from loky.process_executor import TerminatedWorkerError

    context = get_context("loky")
    told, tell = context.Pipe(duplex=False)
    parted, alive = context.Pipe(duplex=False)
    listener = threading.Thread(target=_listen, args=(told,), daemon=True)
    pool = ProcessPoolExecutor(
        num_workers, context=context, initializer=_enter, initargs=(tell, parted), env=ONE_THREAD
    )
    listener.start()
    try:
        yield pool
    except TerminatedWorkerError as error:
        raise WorkerError(_how_it_ended(str(error))) from error
    finally:
        pool.shutdown(kill_workers=True)
        for end in (tell, parted, alive):
            end.close()
        listener.join()


@contextmanager
def thread_pool() -> Iterator[Executor]:
    """Yield an executor of as many threads as torch has, where each operation of torch's takes one thread.

    Calls side by side share a machine better than the threads of one small operation do, and their results
    are the same for any number of them. With one thread the calls run as they are submitted.
    """
    import torch

    number = torch.get_num_threads()
    if number == 1:
        yield _InThisProcess()
        return
    try:
        with ThreadPoolExecutor(number, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield pool
    finally:
        torch.set_num_threads(number)


@contextmanager
def one_thread() -> Iterator[None]:
    """Hold torch at one thread within the block."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _InThisProcess(Executor):
    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        future: Future[T] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


def _how_it_ended(told: str) -> str:
    codes = re.search(r"\{(.*?)\}", told)
    works = ", ".join(works_of_others())
    return (
        f"a worker process was ended ({codes[1] if codes else 'no exit code'})"
        f"{f' during: {works}' if works else ''}; SIGKILL mostly means that memory ran out, of which "
        "LOKY_MAX_CPU_COUNT=1 (one process) needs less; the same command goes on from what is finished"
    )


def _listen(told: Connection) -> None:
    with told:
        while True:
            try:
                event = told.recv()
            except (EOFError, OSError):  # the pool is closed
                return
            except Exception as error:  # no event; those that follow must be read all the same
                stop_showing(error)
                continue
            show_event(event)


def _enter(tell: Connection, parted: Connection) -> None:
    """Begin a worker process."""
    configure_runtime()
    threading.Thread(target=_leave_with_parent, args=(parted,), daemon=True).start()
    use_display(Remote(str(os.getpid()), tell.send))


def _leave_with_parent(parted: Connection) -> None:
    # Nothing is ever sent: the pipe ends when the other process does, and work for nobody stops at once.
    try:
        parted.recv()
    finally:
        os._exit(1)
