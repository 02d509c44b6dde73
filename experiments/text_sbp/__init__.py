"""SBP end to end on real text: `python -m experiments.text_sbp with demo`."""
