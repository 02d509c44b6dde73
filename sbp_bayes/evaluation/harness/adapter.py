"""One of our checkpoints as a model of lm-evaluation-harness.

Every document of our models starts after EOS, so EOS, once, precedes each context, and each document of a
perplexity. That is what the harness's `hf` model does with an exported checkpoint for contexts, where the
tokenizer puts EOS first. For documents (`loglikelihood_rolling`) its default puts EOS there twice and scores
the second; with `add_bos_token=False` it has ours there, and no EOS before contexts. The EOS after a document
is not scored, as the harness has it.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from sbp_bayes.base.errors import ConfigError, CorpusError
from sbp_bayes.base.progress import progress
from sbp_bayes.base.records import EOS
from sbp_bayes.corpus import Tokenizer
from sbp_bayes.evaluation.harness.answers import Answered, Answers, request_key
from sbp_bayes.lm import Transformer
from sbp_bayes.lm.continuations import score_continuations
from sbp_bayes.lm.frozen import freeze
from sbp_bayes.lm.greedy import generate_greedy

MAX_NEW_TOKENS = 256
"""Most tokens of an answer where a task names no limit, as for the harness's `hf` model."""

LOOK_BACK = 2
"""Tokens besides those of a stop's bytes in which a stop is looked for."""

Window = tuple[list[int], list[int]]
"""A context and the tokens that are scored after it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Asked:
    """A request as its windows, with what is known of it before it is answered."""

    windows: list[Window]
    answered: Answered


class CheckpointLM(LM):
    """Answers the harness's requests by a checkpoint.

    Args:
        model: the checkpoint, on the device where it is to compute.
        tokenizer: its own.
        answers: where answers are kept; what is there is not asked again.
    """

    def __init__(self, model: Transformer, tokenizer: Tokenizer, answers: Answers) -> None:
        super().__init__()
        self.model, self.tokenizer, self.answers = freeze(model), tokenizer, answers

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """Return log P(continuation | EOS, context) in nats, and whether each token is the most probable one.

        Raises:
            CorpusError: an empty continuation; the message names task and item.
        """
        answers = self._answer("loglikelihood", requests, self._continuations)
        return [(answer.log_prob_nats, answer.is_greedy) for answer in answers]

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        """Return log P(document | EOS) in nats, in windows of the model's context, each token scored once."""
        answers = self._answer("loglikelihood_rolling", requests, self._documents)
        return [answer.log_prob_nats for answer in answers]

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """Return the most probable continuation of each context, up to the first of its stops.

        Raises:
            ConfigError: a task that samples.
        """
        keys = [request_key("generate_until", request.args) for request in requests]
        missing = {
            key: request.args for key, request in zip(keys, requests, strict=True) if key not in self.answers
        }
        by_settings: dict[str, list[str]] = {}
        for key, (_, settings) in missing.items():
            by_settings.setdefault(repr(settings), []).append(key)
        with progress("answering", len(missing), "questions") as advance:
            for same in by_settings.values():
                self._generate({key: missing[key][0] for key in same}, missing[same[0]][1], advance)
        return [self.answers[key].text for key in keys]

    def _answer(
        self, kind: str, requests: list[Instance], windows: Callable[[list[Instance]], list[_Asked]]
    ) -> list[Answered]:
        """Return the answers to `requests`, those that are not known asked first."""
        keys = [request_key(kind, request.args) for request in requests]
        missing = {
            key: request for key, request in zip(keys, requests, strict=True) if key not in self.answers
        }
        asked = dict(zip(missing, windows(list(missing.values())), strict=True))
        parts = [(key, window) for key, one in asked.items() for window in one.windows]
        left = {key: len(one.windows) for key, one in asked.items()}
        self.answers.add({key: one.answered for key, one in asked.items() if not one.windows})
        rows = [(np.array(context, np.int64), np.array(scored, np.int64)) for _, (context, scored) in parts]
        with progress("scoring", len(asked), "requests") as advance:
            sums = {key: one.answered for key, one in asked.items()}
            for batch in score_continuations(self.model, rows):
                done = {}
                for index, (nats, is_greedy) in batch:
                    key = parts[index][0]
                    so_far = sums[key]
                    sums[key] = dataclasses.replace(
                        so_far,
                        log_prob_nats=so_far.log_prob_nats + nats,
                        is_greedy=so_far.is_greedy and is_greedy,
                    )
                    left[key] -= 1
                    if not left[key]:
                        done[key] = sums[key]
                self.answers.add(done)
                advance(len(done))
        return [self.answers[key] for key in keys]

    def _continuations(self, requests: list[Instance]) -> list[_Asked]:
        pairs = [_at_word_border(*request.args) for request in requests]
        contexts = self._encode({context for context, _ in pairs})
        whole = self._encode({context + continuation for context, continuation in pairs})
        asked = []
        for request, (context, continuation) in zip(requests, pairs, strict=True):
            before, together = [EOS, *contexts[context]], [EOS, *whole[context + continuation]]
            splits_otherwise = together[: len(before)] != before
            scored = together[len(before) :] or self.tokenizer.encode([continuation])[0].tolist()
            if not scored:
                raise CorpusError(f"{request.task_name}: item {request.doc_id} has no token to score")
            asked.append(self._asked(before, scored, splits_otherwise=splits_otherwise))
        return asked

    def _asked(self, context: list[int], scored: list[int], *, splits_otherwise: bool) -> _Asked:
        limit = self.model.config.context_length
        num_cut = max(0, len(context) + len(scored) - limit - 1)
        windows = [(context, scored)] if len(scored) <= limit else self._windows(context[-1], scored)
        answered = Answered(
            is_greedy=True, num_tokens=len(scored), num_cut=num_cut, splits_otherwise=splits_otherwise
        )
        return _Asked(windows=windows, answered=answered)

    def _documents(self, requests: list[Instance]) -> list[_Asked]:
        tokens = self._encode({request.args[0] for request in requests})
        return [
            _Asked(
                windows=self._windows(EOS, tokens[request.args[0]]),
                answered=Answered(is_greedy=True, num_tokens=len(tokens[request.args[0]])),
            )
            for request in requests
        ]

    def _windows(self, first: int, tokens: list[int]) -> list[Window]:
        """Return windows of the model's context that score every token once, as the harness cuts them."""
        windows = get_rolling_token_windows(tokens, first, self.model.config.context_length, 1)
        return [make_disjoint_window(window) for window in windows]

    def _generate(
        self, contexts: Mapping[str, str], settings: Mapping[str, Any], advance: Callable[[int], None]
    ) -> None:
        """Answer questions that share their settings, by key."""
        if settings.get("do_sample", False):
            raise ConfigError(
                f"do_sample = {settings['do_sample']!r}: answers are the most probable ones alone"
            )
        until = settings.get("until", [])
        stops = [stop for stop in ([until] if isinstance(until, str) else until) if stop]
        context_length = self.model.config.context_length
        wanted = int(settings.get("max_gen_toks", MAX_NEW_TOKENS))
        max_new_tokens = wanted if wanted < context_length else context_length // 2
        tokens = self._encode(set(contexts.values()))
        whole = {key: [EOS, *tokens[context]] for key, context in contexts.items()}
        prompts = {key: prompt[-(context_length - max_new_tokens) :] for key, prompt in whole.items()}
        keys = list(prompts)
        look_back = LOOK_BACK + max((len(stop.encode()) for stop in stops), default=0)

        def is_finished(answer: Sequence[int]) -> bool:
            text = self.tokenizer.decode(answer[-look_back:])
            return any(stop in text for stop in stops)

        for batch in generate_greedy(
            self.model,
            [np.array(prompt, np.int64) for prompt in prompts.values()],
            max_new_tokens=max_new_tokens,
            is_finished=is_finished,
        ):
            done = {}
            for index, answer in batch:
                text = self.tokenizer.decode(answer)
                for stop in stops:
                    text = text.split(stop)[0]
                key = keys[index]
                num_cut = len(whole[key]) - len(prompts[key])
                done[key] = Answered(text=text, num_tokens=len(answer), num_cut=num_cut)
            self.answers.add(done)
            advance(len(done))

    def _encode(self, texts: Iterable[str]) -> dict[str, list[int]]:
        unique = list(texts)
        return {text: ids.tolist() for text, ids in zip(unique, self.tokenizer.encode(unique), strict=True)}


def _at_word_border(context: str, continuation: str) -> tuple[str, str]:
    """Move the spaces at the context's end before the continuation, as the harness does."""
    stripped = context.rstrip()
    return stripped, context[len(stripped) :] + continuation
