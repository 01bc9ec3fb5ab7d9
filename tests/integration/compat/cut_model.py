"""Cut a language model to its first layers, for speed: it answers nonsense, in the form and at the pace of a model.

    python cut_model.py FROM.gguf TO.gguf [--layers 2]

Runs in the environment that `install.sh` makes, which has the `gguf` package.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

from gguf import GGUFReader, GGUFValueType, GGUFWriter  # type: ignore[import-not-found]


def cut(source: Path, target: Path, layers: int) -> None:
    """Write to `target` all of `source`, with its metadata and tokens, but only the first layers."""
    reader = GGUFReader(source)
    architecture: str = reader.fields["general.architecture"].contents()
    writer = GGUFWriter(target, architecture)
    for name, part in reader.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture":
            continue  # written by the writer itself
        kind = part.types[0]
        value: Any = layers if name == f"{architecture}.block_count" else part.contents()
        writer.add_key_value(name, value, kind, part.types[-1] if kind == GGUFValueType.ARRAY else None)
    kept = [tensor for tensor in reader.tensors if _layer(tensor.name) < layers]
    for tensor in kept:
        writer.add_tensor_info(
            tensor.name, tensor.data.shape, tensor.data.dtype, tensor.data.nbytes, tensor.tensor_type
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for tensor in kept:
        writer.write_tensor_data(tensor.data)
    writer.close()


def _layer(tensor: str) -> int:
    """Return the layer of a tensor, or -1 for a tensor outside of the layers."""
    found = re.match(r"blk\.(\d+)\.", tensor)
    return int(found[1]) if found is not None else -1


def main() -> None:
    """Cut one file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--layers", type=int, default=2)
    options = parser.parse_args()
    cut(options.source, options.target, options.layers)


if __name__ == "__main__":
    main()
