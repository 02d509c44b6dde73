"""Figures: the same bytes every time, the table's numbers in them, and nothing heavy imported."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from paper_figures import style, text_comparison, text_dynamics
from paper_figures.__main__ import main
from paper_figures.text_results import from_report

SAMPLE = Path(__file__).with_name("sample_report.json")


@pytest.fixture
def report():
    return json.loads(SAMPLE.read_text(encoding="utf-8"))


@pytest.fixture
def runs(report, tmp_path):
    (tmp_path / "runs" / "1").mkdir(parents=True)
    (tmp_path / "runs" / "1" / "report.json").write_text(json.dumps(report), encoding="utf-8")
    return tmp_path / "runs"


def test_all_figures_are_drawn_and_drawn_again_alike(runs, tmp_path, capsys):
    for out in ("a", "b"):
        assert main(["--runs", str(runs), "--out", str(tmp_path / out)]) == 0
    names = {path.name for path in (tmp_path / "a").iterdir()}
    assert names == {
        f"{name}_sample.{kind}" for name in ("text_dynamics", "text_comparison") for kind in ("png", "svg")
    }
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert len(capsys.readouterr().out.splitlines()) == 8


@pytest.mark.parametrize("backend", ["module://matplotlib_inline.backend_inline", "nonsense", "svg"])
def test_figures_need_no_backend(runs, tmp_path, backend):
    code = (
        "import os, sys; from paper_figures.__main__ import main;"
        "assert main(['text_dynamics', '--runs', sys.argv[1], '--out', sys.argv[2]]) == 0;"
        "assert os.environ['MPLBACKEND'] == sys.argv[3];"
        "import matplotlib; print(matplotlib.rcParams['backend'])"
    )
    command = [sys.executable, "-c", code, runs, tmp_path / "named", backend]
    environment = os.environ | {"MPLBACKEND": backend}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert backend != "svg" or done.stdout.splitlines()[-1] == backend  # pictures of others keep theirs
    main(["text_dynamics", "--runs", str(runs), "--out", str(tmp_path / "none")])
    name = "text_dynamics_sample.png"
    assert (tmp_path / "named" / name).read_bytes() == (tmp_path / "none" / name).read_bytes()


def test_one_file_imports_matplotlib():
    root = Path(__file__).parents[2]
    files = [path for package in ("paper_figures", "experiments") for path in (root / package).rglob("*.py")]
    doors = [
        p for p in files if re.search(r"^\s*(import|from) matplotlib", p.read_text(encoding="utf-8"), re.M)
    ]
    assert doors == [root / "paper_figures" / "canvas.py"]


def test_settings_of_the_caller_do_not_show(runs, tmp_path):
    import matplotlib

    main(["text_dynamics", "--runs", str(runs), "--out", str(tmp_path / "a")])
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "pink"}):
        main(["text_dynamics", "--runs", str(runs), "--out", str(tmp_path / "b")])
        assert matplotlib.rcParams["font.size"] == 30
    assert not (tmp_path / "a" / "text_comparison_sample.png").exists()
    name = "text_dynamics_sample.svg"
    assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.parametrize("headline", ["baseline", "tuned_baseline"])
def test_dynamics_shows_the_tables_curves_and_the_best_point(report, headline):
    if headline == "baseline":
        report["dynamics"] = [row for row in report["dynamics"] if row["arm"] != "tuned_baseline"]
        for row in report["arms"]:
            row["arm"] = row["arm"].removeprefix("tuned_")
    results = from_report(report)
    with style.styled("test"):
        (axes,) = text_dynamics.draw(results).axes
    drawn = [line.get_xydata() for line in axes.lines]
    for arm in dict.fromkeys(("baseline", headline, "sbp", "oracle")):
        for curve in [*results.seed_curves(arm), results.mean_curve(arm)]:
            wanted = np.column_stack([curve.tokens / 1e6, curve.nats_per_token])
            assert any(line.shape == wanted.shape and np.allclose(line, wanted) for line in drawn)
    mean = results.mean_curve(headline)
    best = int(np.argmin(mean.nats_per_token))
    assert any(np.allclose(line, [[mean.tokens[best] / 1e6, mean.nats_per_token[best]]]) for line in drawn)


def test_every_interval_is_in_view_with_zero(report):
    for row in report["arms"]:
        if row["arm"] == "sbp":
            row["delta"] = {"value": 0.4, "low": -0.2, "high": 0.9}
    with style.styled("test"):
        axes, _ = text_comparison.draw(from_report(report)).axes
    low, high = axes.get_xlim()
    assert low < -0.412
    assert high > 0.9
    drawn = [list(line.get_xdata()) for line in axes.lines]
    assert [-0.2, 0.9] in drawn
    assert [0.4] in drawn


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("points", [1, 2, 20])
def test_short_runs_are_drawn(report, seeds, points):
    report["dynamics"] = [
        row | {key: row[key][:points] for key in ("tokens", "validation_nats_per_token")}
        for row in report["dynamics"]
        if row["seed"] < seeds
    ]
    with style.styled("test"):
        text_dynamics.draw(from_report(report), width=4.0).canvas.draw()


def test_missing_tables_are_one_line_and_code_2(tmp_path, capsys):
    assert main(["--results", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "no committed tables" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_an_unknown_figure_is_named(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["text_dynamic"])
    assert stop.value.code == 2
    assert "text_dynamic'" in capsys.readouterr().err


def test_figures_read_results_and_nothing_heavier(runs, tmp_path):
    code = (
        "import sys; from paper_figures.__main__ import main; "
        f"assert main(['--runs', {str(runs)!r}, '--out', {str(tmp_path / 'out')!r}]) == 0; "
        "roots = ('torch', 'sacred', 'experiments', 'toy_worlds'); "
        "heavy = [m for m in sys.modules if m.split('.')[0] in roots "
        "or m.startswith('sbp_bayes.') and m.split('.')[1] not in ('results', 'arms')]; "
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2], timeout=60)
