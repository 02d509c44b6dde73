"""Sacred experiments, one question a file: `python -m experiments.<name> with key=value …`."""
