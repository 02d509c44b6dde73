"""`python -m sbp_bayes.cli`, which is also how torchrun starts the command line."""

import sys

from sbp_bayes.cli import main

if __name__ == "__main__":
    sys.exit(main())
