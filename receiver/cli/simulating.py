"""The simulated provider; apart from the service, of which it needs nothing."""

from __future__ import annotations

from typing import Final

import typer

from receiver.core.errors import Misconfigured

#: Where the sandbox listens unless told otherwise.
SANDBOX_PORT: Final = 8090


def sandbox(context: typer.Context) -> None:
    """Simulate a provider: strict, with callbacks, real audio, a ledger of charges, and faults on request."""
    try:
        from receiver.sandbox.__main__ import main as run_sandbox
    except ImportError as exc:
        raise Misconfigured(
            f"the sandbox makes audio and needs the extra `local`: pip install '.[local]' in the checkout ({exc})"
        ) from exc

    run_sandbox(context.args, program="receiver sandbox", port=SANDBOX_PORT)
