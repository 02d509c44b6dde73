"""Documents as partial, noisy views of one table of facts: the case that bootstrapping is made for.

Shapes: N documents, T time, F slots, V values, C concepts of one chunk, K all concepts.
"""

import torch
from torch import Tensor

from sbp_bayes.base.config import require
from sbp_bayes.base.seeds import torch_generator
from sbp_bayes.concept.documents import PAD, document_lengths
from toy_worlds.tables import TableWorld
from toy_worlds.world import Table, require_count, require_integers, require_number, require_seed


class FactViews(TableWorld):
    """A concept fills F = num_slots slots with one of V = num_values values each; a document states some.

    A document states S = num_stated distinct slots, in random order, one token a fact: token =
    slot · V + value. With probability `noise` a uniformly random value stands in place of the table's:

        P(d | c) = (F − S)! / F! · Π_t [(1 − noise) · 1{value_t = table_c[slot_t]} + noise / V]

    and 0 if a slot repeats. The first t ≤ S facts have the same form with t in place of S; documents of
    up to F tokens are scored likewise (the random order goes on), and longer ones have probability 0.
    The tables are uniform, from the seed; P(c) = 1 / num_concepts.

    Args:
        num_concepts: at least 1.
        num_slots: F, at least 1.
        num_values: V, at least 1.
        num_stated: S, from 1 to F.
        noise: in [0, 1].
        seed: draws the tables.
        vocab_size: F · V if it is given at all.
        doc_length: S if it is given at all.
        tables: the value of every slot in place of drawn ones, (num_concepts, num_slots).

    Example: F = 2, V = 2, S = 1, noise = 0.2, and the tables (0, 0) and (0, 1).
    "Slot 1 is 0" has P = ½ · (0.9 + 0.1) / 2 = 0.25, and given itself ½ (0.81 + 0.01) = 0.41.

        >>> sizes = {"num_concepts": 2, "num_slots": 2, "num_values": 2, "num_stated": 1}
        >>> world = FactViews(**sizes, noise=0.2, tables=[[0, 0], [0, 1]])
        >>> d = torch.tensor([[2]])
        >>> round(world.log_prob(d).exp().item(), 4), round(world.log_prob_pair(d, given=d).exp().item(), 4)
        (0.25, 0.41)
    """

    def __init__(
        self,
        *,
        num_concepts: int = 300,
        num_slots: int = 12,
        num_values: int = 12,
        num_stated: int = 6,
        noise: float = 0.02,
        seed: int = 0,
        vocab_size: int | None = None,
        doc_length: int | None = None,
        tables: Table | None = None,
    ) -> None:
        require_count("num_concepts", num_concepts)
        self.num_slots, self.num_values = (
            require_count("num_slots", num_slots),
            require_count("num_values", num_values),
        )
        self.num_stated = require_count("num_stated", num_stated)
        require(num_stated <= num_slots, "num_stated", num_stated, f"at most num_slots = {num_slots}")
        self.noise, self.seed = require_number("noise", noise, 0.0, 1.0), require_seed(seed)
        tokens = num_slots * num_values
        require(vocab_size in (None, tokens), "vocab_size", vocab_size, f"num_slots · num_values = {tokens}")
        require(doc_length in (None, num_stated), "doc_length", doc_length, f"num_stated = {num_stated}")
        self.tables, shape = tables, (num_concepts, num_slots)
        if tables is None:
            tables_KF = torch.randint(num_values, shape, generator=torch_generator(seed, "fact_views"))
        else:
            tables_KF = require_integers("tables", tables, shape, num_values)
        super().__init__(self._log_table(tables_KF), tokens, num_stated)
        self.tables_KF = tables_KF

    def _log_table(self, tables_KF: Tensor) -> Tensor:
        """Return log P(value | slot, c), row slot · V + value, (F · V, K)."""
        stated_KFV = torch.nn.functional.one_hot(tables_KF, self.num_values).double()
        value_KFV = (1.0 - self.noise) * stated_KFV + self.noise / self.num_values
        return value_KFV.log().flatten(1).T.contiguous()

    def _rows(self, d_NT: Tensor) -> Tensor:
        return d_NT

    def _log_likelihood(self, d_NT: Tensor, concepts_C: Tensor) -> Tensor:
        return super()._log_likelihood(d_NT, concepts_C) + self._log_order(d_NT)[:, None]

    def _token_log_likelihood(self, d_NT: Tensor, concepts_C: Tensor) -> Tensor:
        return super()._token_log_likelihood(d_NT, concepts_C) + self._log_slot(d_NT)[:, :, None]

    def log_prob_given(self, d: Tensor, c: Tensor) -> Tensor:
        """Return log P(d | c) of each document under its own concept, (N,)."""
        return super().log_prob_given(d, c) + self._log_order(d)

    def fact_question(self, d: Tensor, statement: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return the facts before one of a document's, its slot's tokens, and which are the concepts' own.

        Args:
            d: whole documents, int64 (N, T).
            statement: the fact asked for, from 0.

        Returns:
            prefixes, int64 (N, statement); candidate tokens, slot · V to slot · V + V − 1, (N, V); the place
            among them of each concept's own value, (N, K).
        """
        slot_N = d[:, statement] // self.num_values
        candidates_NV = slot_N[:, None] * self.num_values + torch.arange(self.num_values)
        return d[:, :statement], candidates_NV, self.tables_KF.T[slot_N]

    def _log_slot(self, d_NT: Tensor) -> Tensor:
        """Return log P(slot_t | slots before it), (N, T): uniform on the slots that are not stated yet."""
        slot_NT = torch.where(d_NT == PAD, PAD, d_NT.clamp(min=0) // self.num_values)
        same_NTT = (slot_NT[:, :, None] == slot_NT[:, None, :]).tril(diagonal=-1)
        left_T = (self.num_slots - torch.arange(d_NT.shape[1])).clamp(min=1)
        log_slot_NT = (-left_T.double().log()).masked_fill(same_NTT.any(dim=2), -torch.inf)
        return log_slot_NT.masked_fill(d_NT == PAD, 0.0)

    def _log_order(self, d_NT: Tensor) -> Tensor:
        """Return log (F − t)!/F! for t distinct slots, −∞ for repeated ones, (N,)."""
        stated_N = document_lengths(d_NT).clamp(max=self.num_slots).double()
        log_order_N = (self.num_slots - stated_N + 1.0).lgamma() - torch.tensor(
            self.num_slots + 1.0, dtype=torch.float64
        ).lgamma()
        possible_N = self._log_slot(d_NT).isfinite().all(dim=1)
        return log_order_N.masked_fill(~possible_N, -torch.inf)

    def _sample(self, c_N: Tensor, generator: torch.Generator) -> Tensor:
        order_NF = torch.rand((len(c_N), self.num_slots), dtype=torch.float64, generator=generator).argsort()
        slot_NT = order_NF[:, : self.doc_length]
        stated_NT = self.tables_KF[c_N].gather(1, slot_NT)
        noise_NT = torch.rand(slot_NT.shape, dtype=torch.float64, generator=generator) < self.noise
        random_NT = torch.randint(self.num_values, slot_NT.shape, generator=generator)
        return slot_NT * self.num_values + torch.where(noise_NT, random_NT, stated_NT)
