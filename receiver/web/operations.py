"""
Every operation that is served. The routes and the OpenAPI document are both made from this table.

To serve one more, add it to `OPERATIONS`: a handler with a docstring, the models
that it takes and gives, and the errors that it raises on purpose beyond those
that follow from taking a key, a body or a query (`Operation.refusals`). A path
parameter must be described in `PATH_PARAMETERS`, a tag in `TAGS`. Then add a row
for each answer to `tests/web/test_every_answer.py`, which fails until it is there,
and renew the copy for readers: `python -m receiver.web.openapi > docs/openapi.json`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST

from receiver.core.errors import (
    AlreadyKnown,
    AlreadySent,
    BucketUnavailable,
    Conflict,
    IdempotencyMismatch,
    LimitTooSmall,
    MayChargeTwice,
    NotFound,
    NotRetryable,
    RangeUnsatisfiable,
    SignatureRejected,
    SpendLimit,
    StoreUnavailable,
    TokenUnknown,
)
from receiver.web import accounts, acts, assets, batch, callbacks, examples, inbox, ledger, ops, reference, tasks
from receiver.web.operation import JSON, Header, Operation, Reply

#: What each group of operations is about, in the order of the document.
TAGS: Final[Mapping[str, str]] = {
    "tasks": "Submit work, ask after it, act on it.",
    "assets": "The archived audio.",
    "accounts": "The contracts with providers.",
    "ledger": "What became of everything that was accepted.",
    "callbacks": "What providers call, by a URL of each task with its own token; and what they have said.",
    "operating": "Alive, ready, metrics, and this document. No key is needed.",
}
PATH_PARAMETERS: Final[Mapping[str, str]] = {
    "task": "The task's id",
    "asset": "The asset's id",
    "account": "The account's name in the settings",
    "callback": "The callback's id",
    "token": "What proves that the URL was made here",
}

IDEMPOTENCY_KEY: Final = Header(
    "Idempotency-Key",
    "Makes the request safe to repeat: 1 to 255 printable ASCII characters, unique for the owner of the API key",
    {"type": "string", "minLength": 1, "maxLength": tasks.LONGEST_KEY, "pattern": "^[ -~]*$"},
)
RANGE: Final = Header("Range", "One range of bytes, such as `bytes=0-1023`; any other form is left out of account")
IF_RANGE: Final = Header("If-Range", "The ETag for which the range is meant; with another one all bytes come")
IF_NONE_MATCH: Final = Header("If-None-Match", "ETags that the caller has already")

LOCATION: Final = Header("Location", "Where the task is", {"type": "string", "format": "uri-reference"})
LOCATION_OF_CALLBACK: Final = Header("Location", "Where the callback is", {"type": "string", "format": "uri-reference"})
ETAG: Final = Header("ETag", "The SHA-256 of the bytes, in quotes: they never change")
CONTENT_RANGE: Final = Header("Content-Range", "Which bytes these are, and of how many")
_POINTED: Final = Header("Location", "A presigned URL", {"type": "string", "format": "uri"})

_CONDITIONS: Final = (RANGE, IF_RANGE, IF_NONE_MATCH)
_BYTES: Final = {
    200: Reply("All bytes", "*/*", (ETAG,)),
    206: Reply("The bytes of the range", "*/*", (ETAG, CONTENT_RANGE)),
    304: Reply("The caller has them already", None, (ETAG,)),
    307: Reply("They are in the bucket, at this address", None, (_POINTED,)),
}
_TASK: Final = Reply("The task as it is now", tasks.TaskView, (LOCATION,))

OPERATIONS: Final = (
    Operation(
        name="tasks_create",
        method="POST",
        path="/v1/tasks",
        handler=tasks.create,
        tag="tasks",
        takes=tasks.TaskBody,
        example=examples.ORDER,
        headers=(IDEMPOTENCY_KEY,),
        gives={202: Reply("The task is durable", tasks.TaskView, (LOCATION,))},
        problems=(IdempotencyMismatch, LimitTooSmall, SpendLimit),
    ),
    Operation(
        name="tasks_create_all",
        method="POST",
        path="/v1/tasks:batch",
        handler=batch.create,
        tag="tasks",
        takes=batch.BatchBody,
        gives={202: Reply("The tasks are durable, in the order of the batch", batch.BatchView)},
        problems=(IdempotencyMismatch, LimitTooSmall, SpendLimit),
    ),
    Operation(
        name="tasks_list",
        method="GET",
        path="/v1/tasks",
        handler=tasks.listing,
        tag="tasks",
        query=tasks.ListQuery,
        gives={200: Reply("One page", tasks.TaskPage)},
    ),
    Operation(
        name="tasks_adopt",
        method="POST",
        path="/v1/tasks:adopt",
        handler=acts.adopt,
        tag="tasks",
        takes=acts.AdoptBody,
        example=examples.ADOPTION,
        gives={202: _TASK},
        problems=(AlreadyKnown, LimitTooSmall, SpendLimit),
    ),
    Operation(
        name="tasks_show",
        method="GET",
        path="/v1/tasks/{task}",
        handler=tasks.show,
        tag="tasks",
        query=tasks.ShowQuery,
        gives={200: Reply("The task", tasks.TaskStory, example=examples.STORY)},
        problems=(NotFound,),
    ),
    Operation(
        name="tasks_events",
        method="GET",
        path="/v1/tasks/{task}/events",
        handler=tasks.events,
        tag="tasks",
        gives={200: Reply("All events", tasks.EventList)},
        problems=(NotFound,),
    ),
    Operation(
        name="tasks_cancel",
        method="POST",
        path="/v1/tasks/{task}/cancel",
        handler=acts.cancel,
        tag="tasks",
        gives={200: _TASK},
        problems=(NotFound, AlreadySent),
    ),
    Operation(
        name="tasks_retry",
        method="POST",
        path="/v1/tasks/{task}/retry",
        handler=acts.retry,
        tag="tasks",
        takes=acts.RetryBody,
        takes_empty=True,
        gives={202: _TASK},
        problems=(NotFound, NotRetryable, MayChargeTwice),
    ),
    Operation(
        name="tasks_refresh",
        method="POST",
        path="/v1/tasks/{task}/refresh",
        handler=acts.refresh,
        tag="tasks",
        gives={202: _TASK},
        problems=(NotFound, Conflict),
    ),
    Operation(
        name="assets_show",
        method="GET",
        path="/v1/assets/{asset}",
        handler=assets.show,
        tag="assets",
        gives={200: Reply("The asset", assets.AssetView)},
        problems=(NotFound,),
    ),
    Operation(
        name="assets_content",
        method="GET",
        path="/v1/assets/{asset}/content",
        handler=assets.content,
        tag="assets",
        headers=_CONDITIONS,
        gives=_BYTES,
        problems=(NotFound, RangeUnsatisfiable, BucketUnavailable),
    ),
    Operation(
        name="assets_play",
        method="GET",
        path="/a/{asset}/{token}",
        handler=assets.play,
        tag="assets",
        headers=_CONDITIONS,
        gives=_BYTES,
        problems=(NotFound, RangeUnsatisfiable, BucketUnavailable, StoreUnavailable),
        auth=False,
    ),
    Operation(
        name="accounts_list",
        method="GET",
        path="/v1/accounts",
        handler=accounts.listing,
        tag="accounts",
        gives={200: Reply("All accounts", accounts.AccountList)},
    ),
    Operation(
        name="accounts_show",
        method="GET",
        path="/v1/accounts/{account}",
        handler=accounts.show,
        tag="accounts",
        gives={200: Reply("The account", accounts.AccountView)},
        problems=(NotFound,),
    ),
    Operation(
        name="accounts_pause",
        method="POST",
        path="/v1/accounts/{account}/pause",
        handler=accounts.pause,
        tag="accounts",
        gives={200: Reply("The account as it is now", accounts.AccountView)},
        problems=(NotFound,),
    ),
    Operation(
        name="accounts_resume",
        method="POST",
        path="/v1/accounts/{account}/resume",
        handler=accounts.resume,
        tag="accounts",
        gives={200: Reply("The account as it is now", accounts.AccountView)},
        problems=(NotFound,),
    ),
    Operation(
        name="ledger_show",
        method="GET",
        path="/v1/ledger",
        handler=ledger.show,
        tag="ledger",
        gives={200: Reply("The ledger of the key's owner", ledger.LedgerView)},
    ),
    Operation(
        name="callbacks_list",
        method="GET",
        path="/v1/callbacks",
        handler=inbox.listing,
        tag="callbacks",
        query=inbox.InboxQuery,
        gives={200: Reply("One page", inbox.CallbackPage)},
    ),
    Operation(
        name="callbacks_show",
        method="GET",
        path="/v1/callbacks/{callback}",
        handler=inbox.show,
        tag="callbacks",
        gives={200: Reply("The callback", inbox.CallbackDetail)},
        problems=(NotFound,),
    ),
    Operation(
        name="callbacks_replay",
        method="POST",
        path="/v1/callbacks/{callback}/replay",
        handler=inbox.replay,
        tag="callbacks",
        gives={202: Reply("It is read again", inbox.CallbackDetail, (LOCATION_OF_CALLBACK,))},
        problems=(NotFound,),
    ),
    Operation(
        name="callbacks_take",
        method="POST",
        path="/callbacks/{account}/{task}/{token}",
        handler=callbacks.Callbacks,
        tag="callbacks",
        takes=JSON,
        takes_empty=True,
        headers=callbacks.SIGNATURE_HEADERS,
        gives={200: Reply("It is kept", callbacks.Kept)},
        problems=(SignatureRejected, TokenUnknown, StoreUnavailable),
        auth=False,
    ),
    Operation(
        name="healthz",
        method="GET",
        path="/healthz",
        handler=ops.healthz,
        tag="operating",
        gives={200: Reply("It is alive", ops.Alive)},
        auth=False,
    ),
    Operation(
        name="readyz",
        method="GET",
        path="/readyz",
        handler=ops.readyz,
        tag="operating",
        gives={200: Reply("It is ready", ops.Ready)},
        problems=(StoreUnavailable,),
        auth=False,
    ),
    Operation(
        name="metrics",
        method="GET",
        path="/metrics",
        handler=ops.metrics,
        tag="operating",
        gives={200: Reply("The metrics", CONTENT_TYPE_LATEST)},
        auth=False,
    ),
    Operation(
        name="openapi",
        method="GET",
        path="/openapi.json",
        handler=reference.document,
        tag="operating",
        gives={200: Reply("The OpenAPI document", JSON)},
        auth=False,
    ),
    Operation(
        name="docs",
        method="GET",
        path="/docs",
        handler=reference.page,
        tag="operating",
        gives={200: Reply("A page for people", "text/html; charset=utf-8")},
        auth=False,
    ),
    Operation(
        name="root",
        method="GET",
        path="/",
        handler=reference.root,
        tag="operating",
        gives={307: Reply("The page is at /docs", None, (LOCATION,))},
        auth=False,
    ),
)
