"""Sacred at the door: settings in, one observed run, one line on stderr for a user's mistake."""

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

with warnings.catch_warnings():
    # Sacred 0.8.7 imports pkg_resources; our pin of setuptools keeps it there.
    warnings.filterwarnings("ignore", "pkg_resources is deprecated")
    from sacred import SETTINGS, Experiment
    from sacred.dependencies import PackageDependency
    from sacred.host_info import HostInfoGetter
    from sacred.observers import FileStorageObserver
    from sacred.utils import ConfigAddedError, SacredError, iterate_flattened

from experiments.observers import observe
from experiments.record import code_state, library_versions, machine, recorded
from sbp_bayes.base.config import did_you_mean_path, encode
from sbp_bayes.base.errors import SbpError
from sbp_bayes.base.stage import Workspace

RUNS = Path("runs")
WORK = Path("work")
ACCEPT_CODE = "accept_code"
"""The setting of every experiment that takes up stages which other code has left: see `Workspace`."""

_until_the_end = contextlib.ExitStack()
"""What ends with the run."""


def make_experiment(name: str, configs: Mapping[str, Any], default: str) -> Experiment:
    """Build a Sacred experiment whose named configurations are the dataclasses in `configs`.

    Runs are recorded under `runs/` by a FileStorageObserver, on rank 0 alone, and with `--observe URL` in a
    database too. Three things are recorded in
    another way than Sacred's: the output, which progress bars would fill; the commit, beside which Sacred
    stores a remote's credentials; and GPUs, whose numbers Sacred reads even where there are none.
    """
    SETTINGS.CAPTURE_MODE = "no"
    SETTINGS.HOST_INFO.INCLUDE_GPU_INFO = False
    SETTINGS.CONFIG.READ_ONLY_CONFIG = False
    facts = [HostInfoGetter(code_state, "code"), HostInfoGetter(machine, "machine")]
    experiment = Experiment(
        name,
        base_dir=".",
        save_git_info=False,
        additional_host_info=facts,
        additional_cli_options=[observe],
    )
    for library, version in library_versions().items():
        # `add_package_dependency` takes no local version, such as torch's 2.13.0+cpu.
        experiment.dependencies.add(PackageDependency(library, version))
    experiment.pre_run_hook(lambda: _record_output(experiment))
    experiment.add_config(encode(configs[default]) | {ACCEPT_CODE: False})
    for config_name, config in configs.items():
        experiment.add_named_config(config_name, encode(config))
    if os.environ.get("RANK", "0") == "0":
        experiment.observers.append(FileStorageObserver(RUNS))
    logger = logging.getLogger(name)
    logger.setLevel(logging.CRITICAL)  # failures are told once, by `run_command_line`
    experiment.logger = logger  # type: ignore[assignment]
    return experiment


def settings_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that plans are made of: a run's without `accept_code` and Sacred's own seed."""
    return {key: value for key, value in config.items() if key not in (ACCEPT_CODE, "seed")}


def workspace(config: Mapping[str, Any]) -> Workspace:
    """Return the folder of all stages, for a run of these settings."""
    return Workspace(WORK, accept_code=config[ACCEPT_CODE])


def run_command_line(experiment: Experiment, arguments: list[str]) -> int:
    """Run Sacred's own command line; return 0, 2 after a user's mistake, or 130 after an interrupt."""
    program = f"python -m experiments.{experiment.path!s}"
    with _until_the_end:
        try:
            # Sacred prints tracebacks of its own unless it is told to raise.
            experiment.run_commandline([program, *arguments, "--debug"])
        except (SbpError, SacredError, MemoryError) as error:
            print(f"{program}: error: {_one_line(error)}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print(f"{program}: interrupted; the same command goes on from here", file=sys.stderr)
            return 130
    return 0


def run_folder(experiment: Experiment) -> Path | None:
    """Return the current run's folder under `runs/`; None where this process doesn't observe it."""
    folders = [o.dir for o in experiment.observers if isinstance(o, FileStorageObserver) and o.dir]
    return Path(folders[0]) if folders else None


def _record_output(experiment: Experiment) -> None:
    """Copy to the run's folder what is printed from now on."""
    if (folder := run_folder(experiment)) is not None:
        _until_the_end.enter_context(recorded(folder / "cout.txt"))


def _one_line(error: BaseException) -> str:
    if isinstance(error, ConfigAddedError):
        key = next(iter(error.__conflicting_configs__))
        known = [path for path, _ in iterate_flattened(error.__config__) if path != key]
        return f"unknown setting {key!r}{did_you_mean_path(key, known)}"
    return " ".join(str(error).split()) or type(error).__name__
