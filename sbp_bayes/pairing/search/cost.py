"""Operations that a search for neighbours takes, by formulas; those in 8 bits count like any others."""

from sbp_bayes.pairing.search.audit import AUDITED_ROWS, SearchReport
from sbp_bayes.pairing.search.exact import num_candidates as exact_candidates
from sbp_bayes.pairing.search.hnsw import EF_CONSTRUCTION, LINKS
from sbp_bayes.pairing.search.inverted import num_candidates as inverted_candidates
from sbp_bayes.pairing.search.lists import ROUNDS, SAMPLED_ROWS_PER_LIST, number_of_lists


def search_flops(search: SearchReport, num_rows: int, dimension: int, k: int) -> float:
    """Return 2·D operations for each product of two vectors that the search of N rows among themselves makes.

    With S shards of n = ⌈N/S⌉ keys each:

    - exact: N² products in 8 bits, and N·S·min(4·k + 24, n) to rank candidates again;
    - inverted, of L lists of which p are probed: S·(n·L + 200·L²) to make the lists, N·S·L to choose among
      them, N·S·p·n/L to score their keys, N·S·min(1.5·k + 4, n) to rank again, and 2·min(500, N)·N for the
      audits;
    - hnsw, which counts nothing itself: at most 32 links of each candidate that is kept, 200 in building and
      ef in searching, so N·32·200 + N·S·32·ef as an upper bound, and the audits.

    Efforts that an audit refused are not counted.

    Args:
        search: how the neighbours were found.
        num_rows: N.
        dimension: D.
        k: neighbours wanted.
    """
    shard_rows = -(-num_rows // search.shards)
    asked = num_rows * search.shards
    if search.backend == "exact":
        return 2.0 * dimension * (num_rows**2 + asked * min(exact_candidates(k), shard_rows))
    products = 2 * min(AUDITED_ROWS, num_rows) * num_rows
    if search.backend == "inverted":
        lists = number_of_lists(shard_rows)
        fitted = ROUNDS * SAMPLED_ROWS_PER_LIST * lists**2
        scored = min(search.effort, lists) * shard_rows / lists
        ranked = min(inverted_candidates(k), shard_rows)
        return (
            2.0
            * dimension
            * (products + search.shards * (shard_rows * lists + fitted) + asked * (lists + scored + ranked))
        )
    links = 2 * LINKS
    return 2.0 * dimension * (products + links * (num_rows * EF_CONSTRUCTION + asked * search.effort))
