"""
A strict simulator of Kling's official text-to-audio API, with its own process, state and ledger.

It stands alone: it shares no code with the rest of the package, so that it can
judge it. What it does is written after providers.md 2; where the vendor is
silent, the module that chooses says so.
"""
