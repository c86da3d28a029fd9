"""
Make the bucket of deploy/compose.yaml where there is none yet: receiver makes none at a server of yours.

    python deploy/bucket.py

It reads the same variables as receiver. Harmless when repeated.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import boto3
from botocore.config import Config


def ensure(given: Mapping[str, str]) -> bool:
    """
    Make the bucket that the variables *given* name; False where it was there.

    Raises:
        ClientError: The server refuses the key, or the bucket.
        BotoCoreError: The server does not answer.
    """
    client = boto3.client(
        "s3",
        endpoint_url=given["RECEIVER_S3_ENDPOINT"],
        region_name="us-east-1",
        aws_access_key_id=given["RECEIVER_S3_ACCESS_KEY"],
        aws_secret_access_key=Path(given["RECEIVER_S3_SECRET_KEY_FILE"]).read_text("utf-8").strip(),
        # A store that has just started may need some more seconds.
        config=Config(s3={"addressing_style": "path"}, retries={"mode": "standard", "total_max_attempts": 8}),
    )
    name = given["RECEIVER_S3_BUCKET"]
    if name in [each["Name"] for each in client.list_buckets()["Buckets"]]:
        return False
    client.create_bucket(Bucket=name)
    return True


if __name__ == "__main__":
    ensure(os.environ)
