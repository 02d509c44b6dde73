"""The study: a cell is a run of text_sbp with one setting changed; what is finished is not run again."""

import dataclasses
from pathlib import Path

import pytest

from experiments.study import _SMOKE, StudyConfig, Sweep, print_sweeps, run_study
from experiments.text_sbp.comparison import compare
from experiments.text_sbp.run import run
from sbp_bayes.base.config import decode, encode
from sbp_bayes.base.errors import ConfigError
from sbp_bayes.base.stage import Workspace

TINY = StudyConfig(
    text_sbp=dataclasses.replace(_SMOKE, unique_tokens=3_000, arms=("baseline",), seeds=(0, 1)),
    sweeps=(Sweep("synthetic_share", (0.25, 0.375)),),
    sweep_arms=("baseline", "self_distillation"),
)


def test_a_cell_is_the_regime_with_one_setting_changed() -> None:
    changed = TINY.changed("pairs.rules.alpha", 0.3)
    assert changed.pairs.rules.alpha == 0.3
    assert changed.seeds == (0,)
    assert changed.arms == TINY.sweep_arms
    same = TINY.changed("pairs.rules.alpha", TINY.text_sbp.pairs.rules.alpha)
    assert dataclasses.replace(same, arms=("baseline",), seeds=(0, 1)) == TINY.text_sbp
    assert decode(StudyConfig, encode(TINY)) == TINY


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("pairs.rules.alhpa", 0.3, "did you mean 'pairs.rules.alpha'"),
        ("paris.k", 3, "'paris'.*did you mean 'pairs'"),
        ("synthetic_share", 1.5, r"synthetic_share = 1\.5"),
        ("repetitions", "many", "repetitions"),
        ("unique_tokens.all", 3, "unique_tokens.all: unique_tokens has no settings of its own"),
    ],
)
def test_a_setting_that_is_not_there_or_cannot_have_the_value_is_named(
    setting: str, value: object, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(TINY, sweeps=(Sweep(setting, (value,)),))


def test_cells_have_the_numbers_of_a_run_and_nothing_is_run_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work = Workspace(tmp_path)
    records = run_study(TINY, work, num_workers=2)
    assert [(record["setting"], record["value"]) for record in records] == list(TINY.cells)
    stages = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/manifest.json")}
    pretrainings = [path for path in stages if path.parent.name.startswith("pretrain-")]
    assert len(pretrainings) == 2 + 2  # a baseline for each seed, and one joint training for each share
    assert run_study(TINY, work, num_workers=1) == records
    alone = compare(run(TINY.changed("synthetic_share", 0.25), work, num_workers=1))
    assert {key: records[0][key] for key in alone} == alone
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/manifest.json")} == stages
    capsys.readouterr()
    print_sweeps(records)
    said = capsys.readouterr().out
    assert "synthetic_share: nats per token on test" in said
    assert f"0.25: repetition {records[0]['arms'][0]['loss']['value']:.3f}; self-distillation" in said
