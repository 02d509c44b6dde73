"""The floor of the package: errors, strict configuration, seeds, atomic storage and records."""
