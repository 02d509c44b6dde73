"""Synthetic Bootstrapped Pretraining, executable and checkable (arXiv 2509.15248).

Data flows one way: corpus → pairs → synthesizer → synthetic corpus → checkpoint → result row.
`sbp_bayes.pipeline` is Algorithm 1 in one page.
"""

__version__ = "0.1.0"
