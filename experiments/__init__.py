"""Sacred experiments, one question a file: `python -m experiments.<name> with key=value …`."""

from sbp_bayes.base.runtime import configure_runtime

configure_runtime()  # before anything imports torch
