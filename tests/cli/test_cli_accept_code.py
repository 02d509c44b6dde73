"""A release that mends a fault in the middle of a run: the stage goes on where the user says so."""

from sbp_bayes.base import stage
from sbp_bayes.base.stage import read_manifest
from sbp_bayes.cli.parser import COMMANDS, build_parser

PREPARE = ("--vocab-size", 400, "--min-chars", 20, "--workers", 1)


def test_every_command_that_runs_a_stage_takes_it():
    (choices,) = (action.choices for action in build_parser()._actions if action.choices)
    takers = {name for name, command in choices.items() if "--accept-code" in command.format_help()}
    assert takers == {name for name, command in COMMANDS.items() if command.is_stage}
    stages = {"corpus", "pair", "tune", "synthesize", "pretrain", "evaluate", "quality", "export-data"}
    assert takers == stages | {f"synthesize {form}" for form in ("prompts", "vllm", "import")}


def test_a_stage_of_other_code_is_refused_and_accepted_where_the_user_says_so(
    tmp_path, texts, sbp, mistake, monkeypatch
):
    out = tmp_path / "out"
    command = ("corpus", texts, "--out", out, *PREPARE)
    sbp(*command)
    before = read_manifest(out)
    monkeypatch.setattr(stage, "code_version", lambda *modules: "mended")
    message = f"{out} holds the output of another plan (differs in code_version = mended here, "
    assert mistake(*command).startswith(message)
    sbp(*command, "--accept-code")
    assert read_manifest(out) == before, "what is finished is used as it is"
    (out / "manifest.json").unlink()
    assert mistake(*command).endswith("or accept that with --accept-code")
    sbp(*command, "--accept-code")
    after = read_manifest(out)
    assert [attempt["code_version"] for attempt in after.attempts] == [before.code_version, "mended"]
    assert (after.fingerprint, after.counts) == (before.fingerprint, before.counts)
    sbp(*command)
