"""How often a judge is wrong, where truth is known: biographies, whose every statement can be looked up.

`python -m experiments.judge_agreement with url=http://localhost:8000/v1 model=NAME` asks a server about
documents of which some are false or about somebody else. With `folder=DIR` and no url a transformers model is
loaded here. The answers stay in the work folder, and the same command goes on with them.
"""

import dataclasses
import sys
from typing import Any

import torch

from experiments.runner import make_experiment, run_command_line, run_folder, settings_of, workspace
from sbp_bayes.base.config import decode, encode, fingerprint, require
from sbp_bayes.base.errors import ConfigError
from sbp_bayes.base.seeds import torch_generator
from sbp_bayes.base.stage import Outcome, StageFolder, Workspace, plan_stage, run_stage
from sbp_bayes.base.store import write_json
from sbp_bayes.evaluation import (
    EndpointConfig,
    EndpointJudge,
    Judge,
    Limits,
    LocalConfig,
    LocalJudge,
    judge_agreement,
)
from sbp_bayes.evaluation.judge.answers import ANSWERS
from toy_worlds.knowledge import Biographies

SCHEMA_VERSION = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class AgreementConfig:
    """Who is asked about what.

    Attributes:
        url, model: a server that speaks OpenAI's chat completions, and its model's name; or
        folder: of a transformers model.
        documents: pairs (d1, d2) of the world that the judge reads.
        unrelated: share of pairs whose d2 is about another person.
        noise: share of statements whose value is random; a document makes three.
        together, max_requests: requests under way at once, and at most; 0 for no limit.
        seed: of world and documents.
    """

    url: str = ""
    model: str = ""
    folder: str = ""
    documents: int = 200
    unrelated: float = 0.5
    noise: float = 0.2
    together: int = 4
    max_requests: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        require(self.documents >= 2, "documents", self.documents, "at least 2")
        require(0 <= self.unrelated <= 1, "unrelated", self.unrelated, "a share, 0 to 1")
        if bool(self.url) == bool(self.folder) or bool(self.url) != bool(self.model):
            raise ConfigError("a judge is needed: url and model of a server, or folder of a model")


def documents(config: AgreementConfig) -> tuple[Biographies, list[str], list[str]]:
    """Return the world, and texts d1 and d2 of as many pairs."""
    world = Biographies(noise=config.noise, seed=config.seed)
    generator = torch_generator(config.seed, "judge agreement")
    c = world.sample_concept(config.documents, generator)
    is_other = torch.rand(len(c), generator=generator) < config.unrelated
    others = (c + torch.randint(1, world.num_concepts, c.shape, generator=generator)) % world.num_concepts
    first = world.sample(c, generator)
    second = world.sample(torch.where(is_other, others, c), generator)
    return world, list(map(world.to_text, first)), list(map(world.to_text, second))


def run(config: AgreementConfig, work: Workspace) -> dict[str, Any]:
    """Return the agreement of the judge with the truth; see `judge_agreement`."""
    judge: Judge
    if config.url:
        judge = EndpointJudge(EndpointConfig(url=config.url, model=config.model))
    else:
        judge = LocalJudge(LocalConfig(folder=config.folder))
    asked = {name: getattr(config, name) for name in ("documents", "unrelated", "noise", "seed")}
    plan = plan_stage("judge-agreement", asked | {"judge": dict(judge.settings)}, {}, __name__)

    def work_on(folder: StageFolder) -> Outcome:
        found = judge_agreement(
            *_asking(config, judge),
            folder.path / ANSWERS,
            limits=Limits(max_requests=config.max_requests or None),
            together=config.together if config.url else 1,
        )
        return Outcome(counts=encode(found))

    return run_stage(plan, work, work_on).counts


def _asking(config: AgreementConfig, judge: Judge) -> tuple[Biographies, Judge, list[str], list[str]]:
    world, first, second = documents(config)
    return world, judge, first, second


# A configuration without a judge is not one, so that the defaults are written down and not built.
DEFAULTS = {field.name: field.default for field in dataclasses.fields(AgreementConfig)}
experiment = make_experiment("judge_agreement", {"biographies": DEFAULTS}, default="biographies")


@experiment.main
def main(_config: dict[str, Any]) -> dict[str, Any]:
    """Ask the judge, print how often it is wrong, and keep that in the run's folder."""
    config = decode(AgreementConfig, settings_of(_config))
    found = run(config, workspace(_config))
    for kind in ("non_factual", "irrelevant"):
        own = found[kind]
        print(
            f"{kind}: misses {_share(own['missed'])} of {own['faulty']} faulty ones, sees faults in "
            f"{_share(own['false_alarms'])} of {own['sound']} sound ones; no verdict on {own['unparsable']} "
            f"of {own['items']}"
        )
    folder = run_folder(experiment)
    if folder is not None:
        record = {"schema_version": SCHEMA_VERSION, "config_fingerprint": fingerprint(encode(config))}
        write_json(folder / "judge_agreement.json", record | {"config": encode(config), "agreement": found})
    return {"missed": found["non_factual"]["missed"], "false_alarms": found["non_factual"]["false_alarms"]}


def _share(share: float | None) -> str:
    return "–" if share is None else f"{share:.1%}"


if __name__ == "__main__":
    sys.exit(run_command_line(experiment, sys.argv[1:]))
