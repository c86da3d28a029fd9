"""`python -m receiver` is the command `receiver`."""

from receiver.cli.main import main

main()
