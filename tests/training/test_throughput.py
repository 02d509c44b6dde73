"""MFU: its formula, a measured peak, and that a training's record has both."""

import time

import pytest
import torch
from tiny_training import TinyModel, train_tiny

from sbp_bayes.training.throughput import flops_utilisation, matmul_peak, throughput


def test_formula_by_hand() -> None:
    """1,000 tokens a second of a model of 50 parameters (6 · 50 FLOPs) on two devices of 3 MFLOP/s."""
    assert flops_utilisation(1000.0, 6 * 50, 2 * 3e6) == pytest.approx(0.05)


def test_peak_is_measured_once_and_quickly() -> None:
    started = time.process_time()
    arguments = (torch.device("cpu"), torch.float32, torch.get_num_threads())
    peak = matmul_peak.__wrapped__(*arguments)
    assert time.process_time() - started < 0.3
    assert 1e8 < peak < 1e14
    assert matmul_peak(*arguments) is matmul_peak(*arguments)


def test_peak_is_that_of_the_products_type(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(
        "sbp_bayes.training.throughput.matmul_peak", lambda device, dtype, threads: asked.append(dtype) or 1e6
    )
    model = TinyModel()
    assert throughput(50.0, 1000.0, model, num_devices=2) == {"tokens_per_second": 50.0, "mfu": 0.025}
    model.matmul_dtype = torch.bfloat16
    throughput(50.0, 1000.0, model)
    assert asked == [torch.float32, torch.bfloat16]


def test_record_of_a_step_has_tokens_and_epochs_by_source(tmp_path) -> None:
    result = train_tiny(tmp_path, flops_per_token=1000.0)
    steps = [record for record in result.history if "learning_rate" in record]
    assert [r["tokens_by_source"] for r in steps] == [{"tiny": 32 * s} for s in range(1, 25)]
    assert [r["epochs_by_source"] for r in steps] == [{"tiny": s / 10} for s in range(1, 25)]
    peak = matmul_peak(torch.device("cpu"), torch.float32, torch.get_num_threads())
    for record in steps:
        assert record["mfu"] == pytest.approx(record["tokens_per_second"] * 1000.0 / peak)
    plain = train_tiny(tmp_path / "unknown", validate=None)
    assert "mfu" not in plain.history[0]
