"""The token budget of a run."""

from sbp_bayes.base.errors import ConfigError


def steps_of_budget(budget_tokens: int, rows_per_batch: int, context_length: int) -> int:
    """Return the most steps whose rows_per_batch · context_length positions each fit the budget.

    Raises:
        ConfigError: the budget is smaller than one step.
    """
    step_tokens = rows_per_batch * context_length
    if budget_tokens < step_tokens:
        raise ConfigError(
            f"budget_tokens = {budget_tokens:,} is less than one step of {rows_per_batch:,} rows "
            f"of {context_length:,} tokens ({step_tokens:,})"
        )
    return budget_tokens // step_tokens
