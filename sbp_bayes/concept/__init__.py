"""The latent-concept model: P(c), P(d|c), and the posterior predictive P(d2|d1) (not written yet)."""
