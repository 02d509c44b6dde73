"""A join's work by Ray, on this machine or a cluster: shards in actors, queries through the object store.

An actor that dies is started again by Ray and takes its keys from the object store with the queries that it
had not answered; the driver loses nothing, as every answer that it has got is its own. Nothing is assumed of
a shared file system: keys, queries and answers travel through Ray, and the driver alone writes files.
"""

import itertools
import logging
import os
import shutil
import signal
import socket
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any, TypeVar

import numpy as np

from sbp_bayes.base.errors import PairingError, SbpError
from sbp_bayes.base.workers import usable_cores
from sbp_bayes.pairing.join.engines import Answer, QueryBlock, Session, Shards
from sbp_bayes.pairing.join.shard import Method, Shard

Item = TypeVar("Item")
Result = TypeVar("Result")

RESTARTS = 8
"""Of an actor, and of a task: enough for lost machines, and an end where the work itself kills its worker."""

CONNECT_SECONDS = 5.0
IN_FLIGHT = 2
"""Blocks of queries under way for each shard: enough that no actor waits, few enough for the object store."""


class RayEngine:
    """Does a join's work in Ray's workers, one thread each.

    Where the process is connected to Ray already, that is used and left as it is.

    Args:
        address: of a running cluster, as "host:port" or "auto", on one of whose machines this process runs,
            with sbp_bayes installed on all of them; None starts a Ray on this machine, with a worker a core,
            and shuts it down afterwards.
    """

    def __init__(self, address: str | None = None) -> None:
        self.address = address
        self._session: _RaySession | None = None

    @contextmanager
    def start(self) -> Iterator[Session]:
        """See `Engine`.

        Raises:
            PairingError: Ray isn't installed, the address can't be reached, the object store is full, or
                workers die again and again.
        """
        try:
            import ray
        except ImportError as error:
            raise PairingError("engine = ray needs Ray: pip install 'sbp_bayes[scale]'") from error
        with _named_errors(ray):
            if self._session is not None:
                yield self._session
                return
            with self._connection(ray):
                self._session = _RaySession(ray)
                try:
                    yield self._session
                finally:
                    self._session.end()
                    self._session = None

    def _connection(self, ray: Any) -> AbstractContextManager[None]:
        if ray.is_initialized():
            return nullcontext()
        return _local(ray) if self.address is None else _cluster(ray, self.address)


class ShardHost:
    """The actor: holds the shards that it has been asked of, for one join at a time."""

    def __init__(self) -> None:
        import torch

        torch.set_num_threads(1)
        # Keys and queries lie in shared memory, where nobody may write; nobody does.
        warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
        self._join = -1
        self._shards: dict[int, Shard] = {}

    def answer(self, join: int, start: int, unit: np.ndarray, *queries: Any) -> np.ndarray | None:
        """Ask the shard of these keys, which is made of them at its first queries. See `Shard.answer`."""
        if join != self._join:
            self._join, self._shards = join, {}
        if start not in self._shards:
            self._shards[start] = Shard(unit, start)
        return self._shards[start].answer(*queries)

    def call(self, function: Callable[[Item], Result], item: Item) -> Result:
        """Return function(item)."""
        return function(item)


class _RaySession:
    """A pool of actors that lasts for several joins: to start one takes seconds."""

    def __init__(self, ray: Any) -> None:
        self._ray, self._joins = ray, itertools.count()
        self._hosts: list[Any] = []

    @contextmanager
    def hold(self, unit: np.ndarray, starts: np.ndarray) -> Iterator[Shards]:
        keys = [self._ray.put(part) for part in np.split(unit, starts[1:])]
        hosts = self._hosts_for(len(keys))
        yield _HeldShards(self._ray, next(self._joins), hosts, keys, [int(start) for start in starts])

    def map(self, function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        hosts = self._hosts_for(len(items))
        calls = (
            (number, partial(host.call.remote, function, item))
            for number, (item, host) in enumerate(zip(items, itertools.cycle(hosts), strict=False))
        )
        results = dict(_bounded(self._ray, calls, IN_FLIGHT * len(hosts)))
        return [results[number] for number in range(len(items))]

    def end(self) -> None:
        """Stop the actors."""
        for host in self._hosts:
            self._ray.kill(host)

    def _hosts_for(self, number: int) -> list[Any]:
        """Return an actor for each of so many works, at most one a core of the cluster."""
        number = min(number, max(1, int(self._ray.cluster_resources().get("CPU", 1))))
        missing = number - len(self._hosts)
        # Where others use the cluster, actors share cores with them rather than wait for their end.
        is_room = self._ray.available_resources().get("CPU", 0) >= missing
        host = self._ray.remote(ShardHost).options(
            num_cpus=int(is_room),
            max_restarts=RESTARTS,
            max_task_retries=RESTARTS,
            scheduling_strategy="SPREAD",
        )
        self._hosts += [host.remote() for _ in range(missing)]
        return self._hosts[:number]


class _HeldShards:
    def __init__(self, ray: Any, join: int, hosts: list[Any], keys: list[Any], starts: list[int]) -> None:
        self._ray, self._join, self._hosts, self._keys, self._starts = ray, join, hosts, keys, starts

    def answers(
        self, query_blocks: Iterable[QueryBlock], k: int, method: Method, effort: int
    ) -> Iterator[Answer]:
        def calls() -> Iterator[tuple[tuple[int, int], Callable[[], Any]]]:
            for queries in query_blocks:
                block = self._ray.put(queries.queries), self._ray.put(queries.own)
                for shard in queries.shards:
                    host, key = self._hosts[shard % len(self._hosts)], (queries.number, shard)
                    of_shard = self._join, self._starts[shard], self._keys[shard]
                    yield key, partial(host.answer.remote, *of_shard, *block, k, method, effort)

        for (block, shard), packed in _bounded(self._ray, calls(), IN_FLIGHT * len(self._keys)):
            # A copy, as the object store keeps what its arrays show.
            yield block, shard, None if packed is None else np.array(packed)


def _bounded(
    ray: Any, calls: Iterable[tuple[Any, Callable[[], Any]]], window: int
) -> Iterator[tuple[Any, Any]]:
    """Yield key and result of each call as it ends, with at most `window` of them under way."""
    waiting, under_way = iter(calls), dict[Any, Any]()
    while True:
        for key, call in itertools.islice(waiting, window - len(under_way)):
            under_way[call()] = key
        if not under_way:
            return
        for done in ray.wait(list(under_way), num_returns=1)[0]:
            yield under_way.pop(done), ray.get(done)


@contextmanager
def _local(ray: Any) -> Iterator[None]:
    """Run a Ray of our own; its processes end with this one, however it ends."""
    # Its sockets' paths must be short.
    short = min((tempfile.gettempdir(), "/tmp"), key=lambda path: (not os.access(path, os.W_OK), len(path)))
    directory = tempfile.mkdtemp(prefix="sbp-ray-", dir=short)
    try:
        with _connected(
            ray, address="local", num_cpus=usable_cores(), include_dashboard=False, _temp_dir=directory
        ):
            yield
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def _cluster(ray: Any, address: str) -> Iterator[None]:
    """Join a running cluster. Ray itself takes a quarter of an hour to find that nobody answers."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if address != "auto":
        try:
            socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
        except (OSError, ValueError, OverflowError) as error:
            raise PairingError(
                f"no Ray cluster answers at {address} ({error}): start one with `ray start --head`, or leave "
                "the address out to start Ray on this machine"
            ) from error
    with _connected(ray, address=address):
        yield


@contextmanager
def _connected(ray: Any, **settings: Any) -> Iterator[None]:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    is_main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=FutureWarning, module="ray")
            ray.init(log_to_driver=False, logging_level=logging.ERROR, **settings)
    except (OSError, RuntimeError, ValueError) as error:
        raise PairingError(
            f"Ray doesn't start (address {settings['address']}): {_first_line(error)}"
        ) from error
    finally:
        if is_main:  # Ray makes SIGTERM leave at once
            signal.signal(signal.SIGTERM, before or signal.SIG_DFL)
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _named_errors(ray: Any) -> Iterator[None]:
    """Turn Ray's errors into ours, and a worker's into what it raised."""
    try:
        yield
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, SbpError | MemoryError):
            raise error.cause from None
        if "ModuleNotFoundError" in str(error):
            lines = str(error).splitlines()
            (missing, *_) = (line for line in lines if line.startswith("ModuleNotFoundError"))
            raise PairingError(
                f"Ray's workers lack something ({missing}): install sbp_bayes there"
            ) from error
        raise
    except (ray.exceptions.ObjectStoreFullError, ray.exceptions.OutOfDiskError) as error:
        raise PairingError(
            "Ray's object store is full: use more machines, or start Ray with more --object-store-memory; "
            "finished parts are kept, the same command goes on"
        ) from error
    except ray.exceptions.RayError as error:
        raise PairingError(
            f"Ray lost its workers ({_first_line(error)}): finished parts are kept, the same command goes on"
        ) from error


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
