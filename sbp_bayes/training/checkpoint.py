"""Resume checkpoints: the model, the optimiser and the training's state, the newest few of them.

A checkpoint is `step_N.safetensors` (tensors, and the state as its metadata) and then `step_N.sha256`;
the second file, written last, makes the first one count. Tensors are whole, by however many processes
the model is trained.
"""

import dataclasses
import hashlib
import json
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from sbp_bayes.base.config import decode, encode
from sbp_bayes.base.errors import CheckpointError, StoreError
from sbp_bayes.base.store import atomic_path, write_text
from sbp_bayes.training.parallel import Processes, sharded_like, whole


@dataclasses.dataclass(kw_only=True)
class TrainState:
    """Everything about a training that is not a tensor.

    Attributes:
        plan: fingerprint of what determines the training's result.
        num_threads: torch's threads, kept over resumption since sums depend on them.
        num_processes: that train together; another number is refused, since sums depend on it.
        device, matmul_dtype: kind of device and number format of products; others are refused, likewise.
        step: finished steps.
        tokens: positions seen, padding included.
        seconds: spent up to the checkpoint, over the attempts that led to it.
        loss_nats_per_token: training loss of the last step.
        best_step: finished steps at the lowest validation loss.
        best_nats_per_token: that loss.
        validations_since_best: for early stopping.
        metrics_bytes: length of the metrics file.
    """

    plan: str
    num_threads: int
    device: str
    matmul_dtype: str
    num_processes: int = 1
    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    loss_nats_per_token: float | None = None
    best_step: int | None = None
    best_nats_per_token: float | None = None
    validations_since_best: int = 0
    metrics_bytes: int = 0


def new_state(plan: str, model: nn.Module, processes: Processes) -> TrainState:
    """Return the state of a training before its first step, as this process computes."""
    device, matmul_dtype = _computed_with(model)
    return TrainState(
        plan=plan,
        num_threads=torch.get_num_threads(),
        device=device,
        matmul_dtype=matmul_dtype,
        num_processes=processes.size,
    )


def save_checkpoint(
    directory: Path,
    state: TrainState,
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    *,
    kept: int = 2,
    processes: Processes = Processes(),  # noqa: B008 - frozen
) -> None:
    """Write a checkpoint and remove all but the newest `kept`; all processes must call this, rank 0 writes.

    Raises:
        StoreError: the disk is full, or the folder cannot be written.
    """
    path = directory / f"step_{state.step:09d}.safetensors"
    named = (*_model_tensors(model), *_optimiser_tensors(optimiser))
    tensors = {name: whole(tensor) for name, tensor in named}
    if not processes.leads:
        return
    with atomic_path(path) as temporary:
        try:
            save_file(tensors, temporary, metadata={"state": json.dumps(encode(state))})
        except SafetensorError as error:  # a full disk reaches Python as this, not as OSError
            raise StoreError(f"cannot write {path}: {error}") from error
        digest = _sha256(temporary)
    write_text(path.with_suffix(".sha256"), digest + "\n")
    _prune(directory, kept)


def restore_checkpoint(
    directory: Path,
    plan: str,
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    *,
    processes: Processes = Processes(),  # noqa: B008 - frozen
) -> TrainState | None:
    """Load the newest sound checkpoint into `model` and `optimiser`; None where there is none.

    A damaged checkpoint is passed over for the one before, with a warning: the steps between are done
    again and come out the same.

    Raises:
        CheckpointError: all checkpoints are damaged, or they belong to another plan, device, number format
            or number of processes, or the newest holds other tensors than the training.
    """
    digests = sorted(directory.glob("step_*.sha256"), reverse=True)
    for digest_path in digests:
        path = digest_path.with_suffix(".safetensors")
        try:
            state, tensors = _read(path, digest_path)
        except (OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
            logging.getLogger(__name__).warning("%s is damaged (%s): trying the one before", path, error)
            continue
        for key, here in zip(("device", "matmul_dtype"), _computed_with(model), strict=True):
            if (there := getattr(state, key)) != here:
                raise CheckpointError(
                    f"{path}: {key} = {here} here, {there} in the checkpoint: "
                    f"go on as it was begun, or remove {directory} to start over"
                )
        if state.plan != plan:
            raise CheckpointError(f"{path} belongs to another training: remove {directory} to start over")
        if state.num_processes != processes.size:
            raise CheckpointError(
                f"{path} was written by {state.num_processes} processes, and this training has "
                f"{processes.size}: go on with as many, or remove {directory} to start over"
            )
        _refuse_other_tensors(path, model, tensors)
        if processes.leads:
            _remove_newer(directory, path.stem)
        _load_model(model, tensors)
        _load_optimiser(optimiser, tensors)
        return state
    if digests:
        raise CheckpointError(f"{directory}: every checkpoint is damaged; remove the folder to start over")
    return None


def _computed_with(model: nn.Module) -> tuple[str, str]:
    """Return the kind of device, and the number format of products."""
    parameter = next(model.parameters())
    dtype = getattr(model, "matmul_dtype", None) or parameter.dtype
    return parameter.device.type, str(dtype).removeprefix("torch.")


def _read(path: Path, digest_path: Path) -> tuple[TrainState, dict[str, torch.Tensor]]:
    if _sha256(path) != digest_path.read_text().strip():
        raise ValueError("its SHA-256 differs")
    with safe_open(path, framework="pt") as file:
        state = decode(TrainState, json.loads(file.metadata()["state"]))
        return state, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _prune(directory: Path, kept: int) -> None:
    """Remove all but the newest checkpoints, and what a killed writer left."""
    stems = {path.stem for path in sorted(directory.glob("step_*.sha256"))[-kept:]}
    _remove(path for path in directory.iterdir() if path.stem not in stems)


def _remove_newer(directory: Path, stem: str) -> None:
    """Remove the damaged checkpoints that were passed over, which else would count among the kept."""
    _remove(path for path in directory.glob("step_*") if path.stem > stem)


def _remove(paths: Iterable[Path]) -> None:
    # Digests go first, so that a kill in between leaves no digest without its tensors.
    for path in sorted(paths, key=lambda path: path.suffix != ".sha256"):
        path.unlink()


def _model_tensors(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield parameters and persistent buffers by name, a shared one once."""
    persistent = model.state_dict().keys()
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if name in persistent:
            yield f"model/{name}", tensor.detach()


def _optimiser_tensors(optimiser: torch.optim.Optimizer) -> Iterator[tuple[str, torch.Tensor]]:
    for index, state in optimiser.state_dict()["state"].items():
        for key, tensor in state.items():
            yield f"optimiser/{index}/{key}", tensor


def _refuse_other_tensors(path: Path, model: nn.Module, tensors: dict[str, torch.Tensor]) -> None:
    wanted = {name: tuple(tensor.shape) for name, tensor in _model_tensors(model)}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items() if name.startswith("model/")}
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            raise CheckpointError(
                f"{path}: {name} has shape {found.get(name, 'none')}, "
                f"but the training needs {wanted.get(name, 'none')}"
            )


def _load_model(model: nn.Module, tensors: dict[str, torch.Tensor]) -> None:
    with torch.no_grad():
        for name, tensor in _model_tensors(model):
            tensor.copy_(sharded_like(tensors[name], tensor))


def _load_optimiser(optimiser: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimiser/"):
            _, index, key = name.split("/")
            parameter = parameters[int(index)]
            # A copy, since the file's memory is neither ours to write nor aligned as torch's is.
            copied = sharded_like(tensor.clone(), parameter) if tensor.ndim else tensor.clone()
            state.setdefault(int(index), {})[key] = copied
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
