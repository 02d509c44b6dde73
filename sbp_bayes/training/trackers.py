"""Trackers: metrics.jsonl of a training, shown by TensorBoard, Weights & Biases or MLflow.

The file stays the record. A tracker is fed from it, from its beginning at every start, into a folder beside
it, so it holds every step once however often the training was interrupted. Nothing leaves the machine.
"""

import contextlib
import importlib.util
import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from sbp_bayes.base.config import require_one_of
from sbp_bayes.base.errors import ConfigError
from sbp_bayes.base.progress import say

SECONDS_BETWEEN_READINGS = 10.0


class Tracker(Protocol):
    """Where numbers go."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Take numbers of one step by name."""
        ...

    def close(self) -> None:
        """Write what is held."""
        ...


@contextlib.contextmanager
def tracked(name: str | None, metrics: Path) -> Iterator[None]:
    """Feed the tracker `name` from the file `metrics` while the block runs; None: no tracker.

    A tracker that fails is given up after one line that says why: training does not end with it.

    Args:
        name: one of `TRACKERS`, which is also the name of its package.
        metrics: metrics.jsonl of a training, which need not be there yet. The tracker's own files go to the
            folder `name` beside it, which is written anew.

    Raises:
        ConfigError: an unknown tracker, or one whose package is missing.
    """
    if name is None:
        yield
        return
    require_one_of("tracker", name, TRACKERS)
    if importlib.util.find_spec(name) is None:
        raise ConfigError(f"tracker = {name!r} needs a package that is missing: pip install {name}")
    stop = threading.Event()
    feeding = threading.Thread(target=_feed, args=(name, metrics, stop), daemon=True)
    feeding.start()
    try:
        yield
    finally:
        stop.set()
        feeding.join()


def _feed(name: str, metrics: Path, stop: threading.Event) -> None:
    """Hand every line of a growing file to a tracker, until `stop` is set and the file is read to its end.

    Nothing is written before there is a line.
    """
    lines, tracker, is_last = _Lines(metrics), None, False
    try:
        with contextlib.ExitStack() as until_the_end:
            while not is_last:
                is_last = stop.wait(SECONDS_BETWEEN_READINGS)
                for record in lines.read():
                    if tracker is None:
                        folder = metrics.parent / name
                        shutil.rmtree(folder, ignore_errors=True)
                        folder.mkdir()
                        tracker = until_the_end.enter_context(contextlib.closing(TRACKERS[name](folder)))
                    tracker.log(record.pop("step"), dict(_numbers(record)))
    except Exception as error:  # whatever a tracker can raise
        say(f"{name} is fed no longer: {type(error).__name__}: {' '.join(str(error).split())}")


class _Lines:
    """The records of a growing file, each once; those that a resumption writes again are passed over."""

    def __init__(self, path: Path) -> None:
        self._path, self._place = path, 0
        self._steps = {True: 0, False: 0}  # the last one of validations, and of steps

    def read(self) -> Iterator[dict[str, Any]]:
        """Yield the records that were not read before."""
        if not self._path.exists():
            return
        with open(self._path, "rb") as file:
            file.seek(max(0, self._place - 1))
            if self._place and file.read(1) != b"\n":  # cut back to a checkpoint since
                self._place = file.seek(0)
            for line in file:
                if not line.endswith(b"\n"):  # still being written
                    break
                self._place += len(line)
                record = json.loads(line)
                kind = "validation_nats_per_token" in record
                if record["step"] > self._steps[kind]:
                    self._steps[kind] = record["step"]
                    yield record


def _numbers(record: Mapping[str, Any], within: str = "") -> Iterator[tuple[str, float]]:
    """Yield the numbers of a record by name, nested ones as "tokens_by_source/real"."""
    for key, value in record.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{within}{key}/")
        elif isinstance(value, int | float):
            yield f"{within}{key}", value


class _TensorBoard:
    """Event files, for `tensorboard --logdir FOLDER`."""

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class _WeightsAndBiases:
    """An offline run, for `wandb sync FOLDER/wandb/offline-run-*`."""

    def __init__(self, folder: Path) -> None:
        import wandb

        self._run = wandb.init(mode="offline", dir=str(folder), project="sbp_bayes", name=folder.parent.name)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        self._run.finish()


class _MLflow:
    """A run in a database of its own, for `mlflow ui --backend-store-uri sqlite:///FOLDER/mlflow.db`."""

    def __init__(self, folder: Path) -> None:
        from mlflow.tracking import MlflowClient

        folder = folder.resolve()
        self._client = MlflowClient(tracking_uri=f"sqlite:///{folder}/mlflow.db")
        artifacts = (folder / "artifacts").as_uri()
        experiment = self._client.create_experiment("sbp_bayes", artifact_location=artifacts)
        self._run = self._client.create_run(experiment, run_name=folder.parent.name).info.run_id

    def log(self, step: int, values: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._client.log_batch(self._run, [Metric(key, value, now, step) for key, value in values.items()])

    def close(self) -> None:
        self._client.set_terminated(self._run)


TRACKERS: Mapping[str, Callable[[Path], Tracker]] = {
    "tensorboard": _TensorBoard,
    "wandb": _WeightsAndBiases,
    "mlflow": _MLflow,
}
