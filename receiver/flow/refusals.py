"""What the log says of an answer that is none to what was asked."""

from __future__ import annotations

import structlog

from receiver.dialects import answers
from receiver.dialects.answers import AccountRefused, Busy, CreateAnswer, ListAnswer, QueryAnswer, Refused, Unsure
from receiver.flow.services import Deal
from receiver.transfer.provider import WireAnswer

log = structlog.get_logger(__name__)


def tell(deal: Deal, raw: WireAnswer, answer: CreateAnswer | QueryAnswer | ListAnswer) -> None:
    """Log a refusal, with the provider's own name of the request: its support asks for it (providers.md 3.3)."""
    match answer:
        case Refused(code=why) | AccountRefused(code=why) | Busy(code=why) | Unsure(why=why):
            named = answers.request_id(header=raw.request_id, body=raw.body)
            outcome = type(answer).__name__.lower()
            log.info("provider.refused", account=deal.account.id, outcome=outcome, why=why, provider_request=named)
        case _:
            return
