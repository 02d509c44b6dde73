"""What the toy worlds say of SBP's Bayesian account, claim by claim, from recorded runs."""
