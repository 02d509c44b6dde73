"""What a run costs, in tokens and in floating-point operations (2 a parameter and token forwards)."""

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


def training_flops(num_parameters: int, num_tokens: int) -> int:
    """Return 6·N·T: forwards and backwards over T tokens; for tuning T is Σ(|d1| + |d2|)."""
    return 6 * num_parameters * num_tokens


def generation_flops(num_parameters: int, num_prompt_tokens: int, num_new_tokens: int) -> int:
    """Return 2·N·(|d1| + |d2|): prefill and decoding, with a cache of keys and values."""
    return 2 * num_parameters * (num_prompt_tokens + num_new_tokens)


def embedding_flops(num_parameters: int, num_tokens: int) -> int:
    """Return 2·N·T: forwards through an embedding model over T tokens."""
    return 2 * num_parameters * num_tokens
