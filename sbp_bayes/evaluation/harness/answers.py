"""What a model has answered so far, on disk: a kill loses at most the batch that was being scored."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sbp_bayes.base.errors import StoreError
from sbp_bayes.base.store import append_json_line, read_json_lines


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answered:
    """A model's answer to one request.

    Attributes:
        log_prob_nats: log P of the continuation or document; 0 for a generated answer.
        is_greedy: whether each of its tokens is the most probable one.
        text: what was generated.
        num_tokens: tokens that were scored or generated.
        num_cut: tokens of the context that did not fit the model's, cut from the left.
        splits_otherwise: whether context and continuation, tokenised together, have a token across their
            border; the harness then takes the tokens beyond the number of the context's. Where none are left,
            which it does not allow, the continuation's own are scored.
    """

    log_prob_nats: float = 0.0
    is_greedy: bool = False
    text: str = ""
    num_tokens: int = 0
    num_cut: int = 0
    splits_otherwise: bool = False


def request_key(kind: str, arguments: Sequence[Any]) -> str:
    """Return 32 hexadecimal digits that name a request of the harness."""
    text = json.dumps([kind, *arguments], ensure_ascii=False, sort_keys=True)
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:32]


class Answers:
    """Answers by the key of their request, each line of the file those of a batch.

    Args:
        path: the file; what an earlier, killed work left in it is there again.

    Raises:
        StoreError: the file is damaged other than by a torn last line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: dict[str, Answered] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            for batch in read_json_lines(path):
                self._known |= {key: Answered(**values) for key, values in batch.items()}
        except (TypeError, AttributeError) as error:
            raise StoreError(f"{path}: damaged, not answers ({error})") from error

    def __contains__(self, key: str) -> bool:
        return key in self._known

    def __getitem__(self, key: str) -> Answered:
        return self._known[key]

    def add(self, batch: Mapping[str, Answered]) -> None:
        """Keep the answers of a batch, on disk first."""
        if batch:
            append_json_line(self.path, {key: dataclasses.asdict(answer) for key, answer in batch.items()})
            self._known |= batch
