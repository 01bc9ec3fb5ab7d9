#!/usr/bin/env bash
# LiteLLM's proxy in a virtual environment of its own (some 600 MB), for `pytest -m compat`. It asks no model:
# its configuration makes it answer by itself.
set -euo pipefail
cd "$(dirname "$0")/../../.."
python=${PYTHON:-python3}
[ -x .venv-compat/bin/python ] || "$python" -m venv .venv-compat
.venv-compat/bin/python -m pip install --quiet --disable-pip-version-check 'litellm[proxy]==1.106.2'
.venv-compat/bin/python -c 'from importlib.metadata import version; print("LiteLLM", version("litellm"))'
