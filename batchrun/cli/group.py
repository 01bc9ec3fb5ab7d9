"""The group that all commands belong to."""

from __future__ import annotations

import click

__all__ = ["cli"]


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="batchrun", message="batchrun %(version)s")
def cli() -> None:
    """Turn a table of prompts into a table of answers: one thread and one run per row."""
