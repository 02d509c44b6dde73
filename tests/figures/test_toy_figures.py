"""Figures of the toy worlds: drawn from what claims keep, with its numbers in them."""

import json
from pathlib import Path

import numpy as np
import pytest

from paper_figures import style, toy_arms, toy_fidelity, toy_phase, toy_prediction, toy_rounds
from paper_figures.__main__ import TOY_FIGURES, main
from paper_figures.toy_results import ToyResults, read_claims
from sbp_bayes.arms import ARMS
from sbp_bayes.results import ResultError


def world_record(bayes: float | None, gap: float) -> dict:
    """Two seeds of every arm; arm i is 0.1 · i above Bayes, whose loss is unknown in a continuous world."""
    arms = [
        {"arm": arm, "best_validation": {"mean": 0.1 * i, "low": 0.1 * i - 0.01, "high": 0.1 * i + 0.01}}
        for i, arm in enumerate(ARMS)
    ]
    synthesizer = {"marginal": 2.0 + gap, "floor": 2.0, "kl": gap / 4}
    if bayes is not None:
        synthesizer |= {"carried": 0.7, "exact_carried": 0.9}
    results = [
        {"arm": arm, "seed": seed, "bayes": bayes, "synthesizer": synthesizer if arm == "sbp" else None}
        for arm in ARMS
        for seed in (0, 1)
    ]
    return {"arms": arms, "results": results}


@pytest.fixture
def claims(tmp_path: Path) -> Path:
    cells = [
        {"world": "fact_views", "num_concepts": k, "documents_per_concept": n, "gain": gain}
        | {"gain_half_width": 0.05}
        for (k, n), gain in {(5, 6): 0.2, (5, 18): -0.1, (10, 6): 0.01, (10, 18): 0.3}.items()
    ]
    rounds = [
        {"seed": seed, "round": r, "excess": 0.3 - 0.05 * r}
        | ({"total_variation": 0.1 * r, "noise": 0.02, "lineage": 0.8 - 0.1 * r} if r else {})
        for seed in (0, 1)
        for r in range(3)
    ]
    files = {
        "toy_validation_fact_views": world_record(1.0, 0.8),
        "toy_validation_hmm_mixture": world_record(1.0, 0.1),
        "toy_validation_topic_tree": world_record(None, 0.4),
        "toy_phase_diagram": {"cells": cells},
        "toy_rounds": {"records": rounds, "config": {"toy": {"world": "fact_views"}}},
        "predictions": {
            "settings": [{"world": "fact_views", "predicted": 0.1, "gain": 0.12}],
            "worlds": [{"world": "hmm_mixture", "predicted": 0.05, "gain": -0.02}],
        },
        "claims": [],
    }
    folder = tmp_path / "results" / "claims"
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


@pytest.fixture
def results(claims: Path) -> ToyResults:
    return read_claims(claims)


def points(axes) -> list[float]:
    return [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "o"]


def texts(axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def test_all_are_drawn_and_drawn_again_alike(claims: Path, tmp_path: Path) -> None:
    for out in ("a", "b"):
        assert main([*TOY_FIGURES, "--results", str(claims.parent), "--out", str(tmp_path / out)]) == 0
    names = {path.name for path in (tmp_path / "a").iterdir()}
    assert names == {f"{name}.{kind}" for name in TOY_FIGURES for kind in ("png", "svg")}
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_arms_stand_in_the_worlds_whose_bayes_loss_is_known(results: ToyResults) -> None:
    with style.styled("test"):
        panels = toy_arms.draw(results).axes
    assert [axes.get_title("left") for axes in panels] == ["fact views", "hmm mixture"]
    for axes in panels:
        means = [line.get_xdata()[0] for line in axes.lines if len(line.get_xdata()) == 1]
        assert np.allclose(means, 0.1 * np.arange(len(ARMS)))


def test_fidelity_shows_what_there_is_and_what_is_reached(results: ToyResults) -> None:
    with style.styled("test"):
        loss, carried = toy_fidelity.draw(results).axes
    assert [bar.get_width() for bar in loss.patches] == pytest.approx([0.8, 0.1, 0.4])
    assert points(loss) == pytest.approx([0.2, 0.025, 0.1])
    assert [bar.get_width() for bar in carried.patches] == pytest.approx([0.9, 0.9])
    assert points(carried) == pytest.approx([0.7, 0.7])


def test_phase_puts_what_is_not_certain_in_brackets(results: ToyResults) -> None:
    with style.styled("test"):
        (axes,) = toy_phase.draw(results).axes
    assert texts(axes) == ["+0.200", "−0.100", "(+0.010)", "+0.300"]


def test_prediction_shows_settings_and_other_worlds(results: ToyResults) -> None:
    with style.styled("test"):
        (axes,) = toy_prediction.draw(results).axes
    drawn = {line.get_marker(): line.get_xydata().tolist() for line in axes.lines[1:]}
    assert drawn == {"o": [[0.1, 0.12]], "s": [[0.05, -0.02]]}


def test_rounds_begin_where_a_measure_does(results: ToyResults) -> None:
    with style.styled("test"):
        panels = toy_rounds.draw(results).axes
    means = [next(line for line in axes.lines if line.get_marker() == "o") for axes in panels]
    assert [line.get_xdata().tolist() for line in means] == [[1, 2], [1, 2], [0, 1, 2]]
    assert means[0].get_ydata().tolist() == pytest.approx([0.1, 0.2])


@pytest.mark.parametrize("name", ["toy_phase", "toy_rounds", "toy_prediction"])
def test_what_was_not_run_is_named(claims: Path, name: str, tmp_path: Path, capsys) -> None:
    (claims / "toy_phase_diagram.json").unlink()
    (claims / "toy_rounds.json").unlink()
    (claims / "predictions.json").write_text('{"settings": [], "worlds": []}', encoding="utf-8")
    assert main([name, "--results", str(claims.parent), "--out", str(tmp_path)]) == 2
    assert "python -m experiments.toy_" in capsys.readouterr().err


def test_no_numbers_at_all(tmp_path: Path) -> None:
    with pytest.raises(ResultError, match=r"experiments\.claims"):
        read_claims(tmp_path)
