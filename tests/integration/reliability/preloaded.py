"""What the fork server has done before it starts a process: imports, and the rest of what each command does once.

Nothing here may start a thread, or open a file that the processes would share.
"""

from __future__ import annotations

import gc
import importlib
import os

from batchrun.job.validation import make_job
from batchrun.pricing import PriceList
from batchrun.prompts.rendering_version import rendering_digest
from batchrun.services.route import trusted_certificates

for _name in (
    "batchrun.api.run",
    "batchrun.batch.display",
    "batchrun.batch.run",
    "batchrun.batch.show",
    "batchrun.cli",
    "batchrun.server",
    "batchrun.server.responders.fault_injection",
    "batchrun.server.responders.script",
    "openai.resources.beta.threads",
    "rich.console",
    # What these import when they first run.
    "anyio._backends._asyncio",
    "encodings.idna",
    "h11",
    "httpcore2",
    "minijinja._internal",
    "uvloop",
):
    importlib.import_module(_name)

make_job({"model": "m"})
PriceList(None, {}, embedded=False).matched("any")
rendering_digest()
trusted_certificates({name: os.environ[name] for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if name in os.environ})
gc.collect()
gc.freeze()
