"""The benchmarks as tasks of lm-evaluation-harness, by its own definitions, from the hub or local items."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import datasets
import lm_eval.api.task
import lm_eval.tasks
from lm_eval.api.samplers import FirstNSampler
from lm_eval.api.task import ConfigurableTask, Task
from lm_eval.tasks import TaskManager
from tqdm import tqdm

from sbp_bayes.base.errors import CorpusError
from sbp_bayes.evaluation.harness.benchmarks import Benchmark
from sbp_bayes.evaluation.harness.items import Items

lm_eval.api.task.tqdm = functools.partial(tqdm, disable=True)  # a bar for each task's prompts

SHOTS_SEED = 1234
"""Seed by which the harness draws shots, its own default."""

MMLU_PROMPTS = {
    "mmlu_letter": {
        "description": "The following are multiple choice questions (with answers) about "
        "{{subject|replace('_', ' ')}}.\n\n",
        "doc_to_text": "{{question.strip()}}\nA. {{choices[0]}}\nB. {{choices[1]}}\nC. {{choices[2]}}\n"
        "D. {{choices[3]}}\nAnswer:",
        "doc_to_target": "{{' ' + 'ABCD'[answer]}}",
    },
    "mmlu_text": {
        "description": "The following are questions (with answers) about {{subject|replace('_', ' ')}}.\n\n",
        "doc_to_text": "Question: {{question.strip()}}\nAnswer:",
        "doc_to_target": "{{' ' + choices[answer]}}",
    },
}
"""Prompts of the harness's own `mmlu` and `mmlu_continuation`, for all subjects in one task."""


CHANGES = {"webqs": {"fewshot_config": {"doc_to_target": lambda doc: min(doc["answers"])}}}
"""What of the harness's definitions is changed: the answer in WebQS's solved example. Version 0.4.13 takes
the number of the answer for it, and fails; here it is the first of the sorted answers, as is meant there."""


class SubjectTask(ConfigurableTask):
    """A task whose shots are the first examples of the item's own subject."""

    def fewshot_context(self, doc: dict[str, Any], *args: Any, **kwargs: Any) -> str | list[str]:
        """Return the prompt, see `ConfigurableTask`."""
        same = self._examples.get(doc["subject"], [])
        wanted = self.config.num_fewshot or 0
        if len(same) < wanted:
            raise CorpusError(
                f"{self.config.task}: {len(same)} examples of {doc['subject']}, expected {wanted}"
            )
        self.sampler = FirstNSampler(same)
        return super().fewshot_context(doc, *args, **kwargs)

    @functools.cached_property
    def _examples(self) -> dict[str, list[dict[str, Any]]]:
        by_subject: dict[str, list[dict[str, Any]]] = {}
        for example in self.fewshot_docs():
            by_subject.setdefault(example["subject"], []).append(example)
        return by_subject


def load_tasks(benchmarks: Mapping[str, Benchmark], items: Mapping[str, Items]) -> dict[str, Task]:
    """Return the tasks of the benchmarks by name, on the local `items` where there are some, else on the hub.

    Raises:
        CorpusError: a data set that cannot be loaded from the hub.
    """
    tasks = {}
    for name, benchmark in benchmarks.items():
        settings = {
            "num_fewshot": benchmark.shots,
            **_data(benchmark, items.get(name)),
            **CHANGES.get(name, {}),
        }
        try:
            task = _mmlu(name, settings) if benchmark.definition is None else _own(benchmark, settings)
        except Exception as error:  # whatever the network, the hub or a data set's layout brings up
            if name in items:
                raise
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise CorpusError(
                f"{benchmark.label} cannot be loaded from the hub ({reason}); --tasks-dir DIR reads local "
                f"items from DIR/{benchmark.data}"
            ) from error
        task.set_fewshot_seed(seed=SHOTS_SEED)
        tasks[name] = task
    return tasks


def _data(benchmark: Benchmark, items: Items | None) -> dict[str, Any]:
    """Return what a definition is changed by for local items."""
    if items is None:
        return {}
    splits = {"test": datasets.Dataset.from_list(items.evaluated)}
    if items.examples is not None:
        splits["examples"] = datasets.Dataset.from_list(items.examples)
    shots_split = ("examples" if items.examples is not None else "test") if benchmark.shots else None
    return {
        "custom_dataset": lambda **_: datasets.DatasetDict(splits),
        "training_split": None,
        "validation_split": None,
        "test_split": "test",
        "fewshot_split": shots_split,
    }


def _own(benchmark: Benchmark, settings: Mapping[str, Any]) -> Task:
    """Return the harness's own task with some settings changed."""
    assert benchmark.definition is not None
    folder, name = benchmark.definition
    manager = TaskManager(include_path=Path(lm_eval.tasks.__file__).parent / folder, include_defaults=False)
    return manager.load([{"group": "talk", "task": [{"task": name, **settings}]}])["tasks"][name]


def _mmlu(name: str, settings: Mapping[str, Any]) -> Task:
    config = {
        "task": name,
        "dataset_path": "cais/mmlu",
        "dataset_name": "all",
        "test_split": "test",
        "fewshot_split": "dev",
        "output_type": "loglikelihood",
        "target_delimiter": "",
        "should_decontaminate": True,
        "doc_to_decontamination_query": "{{question}}",
        "metric_list": [
            {"metric": "perplexity", "aggregation": "perplexity", "higher_is_better": False},
            {"metric": "acc", "aggregation": "mean", "higher_is_better": True},
        ],
        "metadata": {"version": 1.0},
        **MMLU_PROMPTS[name],
    }
    return SubjectTask(config={**config, **settings})
