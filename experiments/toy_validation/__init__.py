"""Does SBP learn in worlds where every probability is known: arms, controls and the Bayes-optimal loss."""
