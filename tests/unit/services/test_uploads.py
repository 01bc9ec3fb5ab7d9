"""Uploads: each content once, whoever asks, however often; and the vector store of a batch."""

from __future__ import annotations
