"""Quality of synthetic text, measured without a judge."""
