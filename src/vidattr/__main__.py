"""`python -m vidattr` is the command line."""

from __future__ import annotations

from vidattr.cli import main

if __name__ == "__main__":
    main()
