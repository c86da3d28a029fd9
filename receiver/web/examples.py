"""Requests and answers as they may look, for the document; a test holds them against their schemas."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

ORDER: Final[Mapping[str, Any]] = {
    "account": "kling",
    "kind": "text-to-audio",
    "input": {"prompt": "rain on a tin roof", "duration": 5},
    "reference": "scene-12",
    "labels": {"film": "north"},
}
ADOPTION: Final[Mapping[str, Any]] = {
    "account": "kling",
    "kind": "text-to-audio",
    "provider_task_id": "831850415648346149",
}
_SHA256: Final = "0a963a1c9fa9f39c7adc7819aba7501fc342dcb056e6d0491719c8c391ad5f56"
_KEY: Final = "59538901725170812/831850420112345678-0a963a1c9fa9f39c.mp3"
STORY: Final[Mapping[str, Any]] = {
    "id": "59538901725170812",
    **ORDER,
    "state": "archived",
    "reason": None,
    "detail": None,
    "attention": None,
    "revision": 1,
    "trust": "signed",
    "provider_task_id": "831850415648346149",
    "units": "0.5",
    "created_at": "2026-11-21T02:35:01.728Z",
    "sent_at": "2026-11-21T02:35:01.734Z",
    "due_at": None,
    "ended_at": "2026-11-21T02:35:29.829Z",
    "slack_seconds": None,
    "assets": [
        {
            "id": "1",
            "task": "59538901725170812",
            "clip": "831850420112345678",
            "position": 0,
            "format": "mp3",
            "state": "stored",
            "s3_uri": f"s3://receiver/{_KEY}",
            "bytes": 80666,
            "sha256": _SHA256,
            "media_type": "audio/mpeg",
            "seconds": 5.04,
            "verified": "checksum",
            "stored_at": "2026-11-21T02:35:29.822Z",
            "error": None,
            "url": "/v1/assets/1/content",
            "play_url": "https://hooks.example.com/a/1/df6f6d82.9-WD7hxS6-A8ZZ-HqzVWAqO83K0eyh7Z-ugd3fwh-tI",
        }
    ],
    "events": [
        {
            "id": "1",
            "at": "2026-11-21T02:35:01.728Z",
            "type": "task.accepted",
            "data": {"account": "kling", "kind": "text-to-audio", "reference": "scene-12"},
        },
        {
            "id": "7",
            "at": "2026-11-21T02:35:29.829Z",
            "type": "asset.stored",
            "data": {"asset": "1", "key": _KEY, "bytes": 80666, "sha256": _SHA256, "verified": "checksum"},
        },
        {"id": "8", "at": "2026-11-21T02:35:29.829Z", "type": "task.archived", "data": {}},
    ],
}
