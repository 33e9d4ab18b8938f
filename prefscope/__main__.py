"""`python -m prefscope`."""

from prefscope.cli import main

main()
