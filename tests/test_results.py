"""Result rows survive the disk, and refuse what is not a result."""

import ast
import dataclasses
import json
import sys
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sbp_bayes import results
from sbp_bayes.results import SCHEMA_VERSION, ResultError, ResultRow, read_results, write_results

ROW = ResultRow(
    experiment="repetition",
    run="17",
    arm="sbp",
    seed=3,
    split="test",
    checkpoint="best_validation",
    tokens_seen=10_000,
    unique_tokens=500,
    total_flops=1.5e12,
    loss_nats_per_token=2.25,
    bits_per_byte=1.125,
    interval_low=2.0,
    interval_high=2.5,
    config_fingerprint="0123456789abcdef",
)
finite = st.floats(allow_nan=False, allow_infinity=False)


@example(arm="\x85\u2028\n", loss=0.0, seed=0, bits=None)  # what str.splitlines takes for line ends
@settings(deadline=None)
@given(arm=st.text(), loss=finite, seed=st.integers(), bits=st.none() | finite)
def test_rows_survive_the_disk(
    tmp_path_factory: pytest.TempPathFactory, arm: str, loss: float, seed: int, bits: float | None
) -> None:
    path = tmp_path_factory.mktemp("results") / "deep" / "rows.jsonl"
    row = dataclasses.replace(ROW, arm=arm, loss_nats_per_token=loss, seed=seed, bits_per_byte=bits)
    write_results(path, [ROW, row])
    assert read_results(path) == [ROW, row]
    assert [p.name for p in path.parent.iterdir()] == ["rows.jsonl"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("checkpoint", "first"),
        ("loss_nats_per_token", float("nan")),
        ("total_flops", float("inf")),
        ("bits_per_byte", "1"),
        ("seed", True),
        ("tokens_seen", 1.5),
        ("interval_low", None),
        ("interval_low", 3.0),
        ("schema_version", SCHEMA_VERSION + 1),
    ],
)
def test_refuses_what_is_no_result(field: str, value: object) -> None:
    with pytest.raises(ResultError, match=field):
        dataclasses.replace(ROW, **{field: value})


@pytest.mark.parametrize(
    "line",
    ["{", "[1]", json.dumps(dataclasses.asdict(ROW) | {"colour": "red"}), '{"arm": "sbp"}'],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str) -> None:
    write_results(tmp_path / "rows.jsonl", [ROW])
    with open(tmp_path / "rows.jsonl", "a") as file:
        file.write(line + "\n")
    with pytest.raises(ResultError, match=r"rows\.jsonl:2: not a result row"):
        read_results(tmp_path / "rows.jsonl")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ResultError, match=r"none\.jsonl"):
        read_results(tmp_path / "none.jsonl")


def test_the_module_imports_the_standard_library_alone() -> None:
    tree = ast.parse(Path(results.__file__).read_text())
    imported = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    imported |= {str(n.module) for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    assert {name.split(".")[0] for name in imported} <= sys.stdlib_module_names
