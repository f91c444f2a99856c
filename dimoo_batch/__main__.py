"""The command line, as ``dimoo-batch`` and as ``python -m dimoo_batch``."""

from jobs.cli import main

if __name__ == "__main__":
    main()
