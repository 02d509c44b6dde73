"""What an arm takes: each stage that it needs, once, and its own training up to the weights meant."""

import dataclasses
from pathlib import Path

from sbp_bayes.base.stage import Manifest
from sbp_bayes.evaluation import arm_flops
from sbp_bayes.pipeline import SbpStages


def stage(name: str, flops: float, num_steps: int = 10) -> Manifest:
    return Manifest(
        stage=name,
        fingerprint=name,
        inputs={},
        config={},
        code_version="",
        counts={"num_steps": num_steps},
        seconds=0.0,
        flops=flops,
        directory=Path(),
    )


def test_each_stage_counts_once_and_training_up_to_its_step() -> None:
    joint, baseline, tune = stage("joint", 100.0), stage("baseline", 50.0), stage("tune", 7.0)
    assert arm_flops(baseline) == 50
    assert arm_flops(joint, [baseline, tune]) == 157
    again = dataclasses.replace(baseline, seconds=9.0)
    assert arm_flops(joint, [baseline, tune, again, joint]) == 157
    assert arm_flops(joint, [baseline, tune], steps=4) == 40 + 57
    assert arm_flops(joint, [baseline], steps=0) == 50


def test_algorithm_1_takes_all_its_stages() -> None:
    names = [field.name for field in dataclasses.fields(SbpStages)]
    stages = SbpStages(**{name: stage(name, 10.0**i) for i, name in enumerate(names)})
    assert stages.total_flops == 11111
    assert stages.joint not in stages.before_joint
