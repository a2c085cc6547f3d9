"""Decides by a hash what is kept for evaluation, so that generator and tests need no shared list."""

import hashlib


def bucket(text: str, buckets: int) -> int:
    """A stable number below `buckets`; Python's own hash() changes from run to run."""
    digest = hashlib.blake2b(text.encode("utf-8"), digest_size=8).digest()
    return int.from_bytes(digest, "big") % buckets


def held_out(question: str) -> bool:
    """One question in sixteen is never trained on."""
    return bucket(question, 16) == 0
