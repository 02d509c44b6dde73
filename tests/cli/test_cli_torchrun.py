"""The command line under torchrun: one folder, one line of output, the losses of one process."""

import subprocess
import sys

import pytest
import torch

from sbp_bayes.base.stage import read_manifest
from sbp_bayes.lm import load_model

TRAIN = ("--preset", "smoke", "--rows-per-batch", "8", "--set", "num_validations=2", "--vocab-size", "400")


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this PyTorch has no torch.distributed")
def test_two_processes_pretrain_as_one_does(tmp_path, texts, sbp):
    command = ["pretrain", str(texts), *TRAIN, "--budget-tokens", "6000", "--set", "matmul_dtype=float32"]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    shared = [*launcher, "-m", "sbp_bayes.cli", *command, "--out", str(tmp_path / "two")]
    done = subprocess.run(shared, check=False, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    summary = sbp(*command, "--out", tmp_path / "one")
    assert done.stdout.count("pretrain: ") == summary.count("pretrain: ") == 1

    two, one = (read_manifest(tmp_path / name) for name in ("two", "one"))
    assert two.fingerprint == one.fingerprint
    assert two.counts["tokens_by_source"] == one.counts["tokens_by_source"]
    for name in ("last_loss_nats_per_token", "best_validation_nats_per_token"):
        assert two.counts[name] == pytest.approx(one.counts[name], rel=1e-5)
    weights = load_model(tmp_path / "one" / "best").state_dict()
    for name, tensor in load_model(tmp_path / "two" / "best").state_dict().items():
        torch.testing.assert_close(tensor, weights[name], rtol=1e-3, atol=1e-4)
    assert not list((tmp_path / "two").rglob("*.tmp"))
