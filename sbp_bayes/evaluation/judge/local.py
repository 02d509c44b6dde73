"""A judge in this process: any causal language model of transformers that has a chat template."""

import dataclasses
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sbp_bayes.base.config import require
from sbp_bayes.base.errors import JudgeError
from sbp_bayes.base.store import folder_fingerprint
from sbp_bayes.evaluation.judge.judges import Meter, Reply, one_line
from sbp_bayes.evaluation.judge.questions import Message


@dataclasses.dataclass(frozen=True, kw_only=True)
class LocalConfig:
    """A model in a folder.

    Attributes:
        folder: what `save_pretrained` of a model and its tokenizer wrote.
        max_answer_tokens: longest reply. It is decoded greedily.
    """

    folder: str
    max_answer_tokens: int = 512

    def __post_init__(self) -> None:
        require(self.max_answer_tokens >= 1, "max_answer_tokens", self.max_answer_tokens, "at least 1")


class LocalJudge:
    """A judge that is loaded here; see `Judge`."""

    def __init__(self, config: LocalConfig) -> None:
        """Load the model.

        Raises:
            JudgeError: transformers is missing, the folder holds no such model, or it has no chat template.
        """
        try:
            from transformers import AutoModelForCausalLM, AutoTokenizer
        except ImportError as error:
            raise JudgeError("a local judge needs transformers: pip install 'sbp_bayes[hf]'") from error
        if not (Path(config.folder) / "config.json").exists():
            raise JudgeError(f"{config.folder}: no transformers model in this folder")
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(config.folder, local_files_only=True)
            self._model: Any = AutoModelForCausalLM.from_pretrained(config.folder, local_files_only=True)
        except (OSError, ValueError) as error:
            raise JudgeError(
                f"{config.folder}: transformers cannot load it as a judge ({one_line(error)})"
            ) from error
        if not self._tokenizer.chat_template:
            raise JudgeError(f"{config.folder}: its tokenizer has no chat template, so it is no judge")
        self._model.eval()
        self.config, self._lock = config, threading.Lock()
        self._fingerprint = folder_fingerprint(Path(config.folder))

    @property
    def settings(self) -> dict[str, Any]:
        """The folder's content, and the decoding."""
        return {
            "kind": "local",
            "model": self._fingerprint,
            "parameters": {"decoding": "greedy", "max_answer_tokens": self.config.max_answer_tokens},
        }

    @property
    def source(self) -> str:
        """The folder."""
        return self.config.folder

    def reply(self, messages: Sequence[Message], meter: Meter) -> Reply:
        """Decode one reply, one at a time; a prompt that does not fit the model is refused."""
        meter.request()
        with self._lock:  # a tokenizer is used by one thread at a time
            return self._decoded(messages)

    def _decoded(self, messages: Sequence[Message]) -> Reply:
        import torch

        prompt: Any = self._tokenizer.apply_chat_template(
            [{**message, "content": self._without_special(message["content"])} for message in messages],
            add_generation_prompt=True,
            return_tensors="pt",
            return_dict=True,
        )
        length = prompt["input_ids"].shape[1]
        room = getattr(self._model.config, "max_position_embeddings", None)
        if room is not None and length + self.config.max_answer_tokens > room:
            return Reply(text=None, error=f"a prompt of {length:,} tokens; the model has {room:,} positions")
        with torch.inference_mode():
            written = self._model.generate(
                **prompt, max_new_tokens=self.config.max_answer_tokens, do_sample=False
            )[0, length:]
        return Reply(
            text=str(self._tokenizer.decode(written, skip_special_tokens=True)),
            model=Path(self.config.folder).name,
            finish="length" if len(written) == self.config.max_answer_tokens else "stop",
            tokens=length + len(written),
        )

    def _without_special(self, text: str) -> str:
        """Return `text` with a space within each special token's name, so that it is read as text."""
        for token in self._tokenizer.all_special_tokens:
            text = text.replace(token, f"{token[0]} {token[1:]}")
        return text
