"""Items of all nine benchmarks in the forms that are read, and a small model that knows their words."""

import json
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sbp_bayes.corpus import Tokenizer, train_tokenizer
from sbp_bayes.lm import LMConfig, Transformer

WORDS = "river stone cloud sugar copper tiger violin planet engine forest magnet silver".split()  # noqa: SIM905
SUBJECTS = ("abstract_algebra", "high_school_us_history")
SHAPE = LMConfig(
    vocab_size=400,
    context_length=300,
    width=32,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_width=16,
    hidden_width=56,
)


def sentence(generator: random.Random, size: int) -> str:
    return " ".join(generator.choices(WORDS, k=size))


def _arc(r: random.Random, i: int) -> dict[str, Any]:
    texts = [sentence(r, r.randint(1, 3)) for _ in range(5 if i == 0 else 4)]
    labels = [*"ABCDE"][: len(texts)]
    choices = {"text": texts, "label": labels}
    return {"question": f"What is a {sentence(r, 5)}?", "choices": choices, "answerKey": r.choice(labels)}


def _sciq(r: random.Random, i: int) -> dict[str, Any]:
    names = ("distractor1", "distractor2", "distractor3", "correct_answer")
    answers = {name: sentence(r, 1) for name in names}
    return {"question": f"Which {sentence(r, 4)}?", "support": sentence(r, 12 if i % 2 else 0), **answers}


def _winogrande(r: random.Random, i: int) -> dict[str, Any]:
    text = f"The {sentence(r, 3)} is larger than the {sentence(r, 1)} because the _ is {sentence(r, 2)}."
    return {"sentence": text, "option1": "river", "option2": "rivers", "answer": str(1 + i % 2)}


def _triviaqa(r: random.Random, i: int) -> dict[str, Any]:
    aliases = [f"{sentence(r, 1).title()} {i}", sentence(r, 2)]
    return {"question": f"Which {sentence(r, 4)} was first", "answer": aliases[0], "aliases": aliases}


def _webqs(r: random.Random, i: int) -> dict[str, Any]:
    return {
        "question": f"who saw the {sentence(r, 3)}?",
        "answers": [sentence(r, 2) for _ in range(1 + i % 3)],
    }


def _mmlu(r: random.Random, i: int) -> dict[str, Any]:
    choices = [sentence(r, 2) for _ in range(4)]
    return {"question": f"{sentence(r, 4)} ", "subject": SUBJECTS[i % 2], "choices": choices, "answer": i % 4}


def _text(r: random.Random, i: int) -> dict[str, Any]:
    return {"text": f"{sentence(r, 3 + 200 * (i == 0))}. The {sentence(r, 9)}"}


FILES: Mapping[str, tuple[Callable[[random.Random, int], dict[str, Any]], int]] = {
    "openwebtext2/test.jsonl": (_text, 5),
    "lambada/test.jsonl": (_text, 8),
    "mmlu/dev.jsonl": (_mmlu, 12),
    "mmlu/test.jsonl": (_mmlu, 8),
    "arc_challenge/test.jsonl": (_arc, 8),
    "arc_easy/test.jsonl": (_arc, 8),
    "sciq/test.jsonl": (_sciq, 8),
    "winogrande/validation.jsonl": (_winogrande, 8),
    "triviaqa/validation.jsonl": (_triviaqa, 8),
    "triviaqa/train.jsonl": (_triviaqa, 5),
    "webqs/test.jsonl": (_webqs, 8),
    "webqs/train.jsonl": (_webqs, 5),
}


def write_items(root: Path) -> Path:
    """Write items of every benchmark under `root`."""
    for name, (make, number) in FILES.items():
        generator = random.Random(name)
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(make(generator, i)) + "\n" for i in range(number)))
    return root


def small_tokenizer() -> Tokenizer:
    return train_tokenizer([sentence(random.Random(0), 400), "Question: Which? Answer: the A B C D. "], 400)


def small_model(tokenizer: Tokenizer) -> Transformer:
    import dataclasses

    return Transformer(dataclasses.replace(SHAPE, vocab_size=tokenizer.vocab_size), seed=1).eval()
