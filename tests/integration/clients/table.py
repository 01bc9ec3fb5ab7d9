"""The clients of the old API that are tried against the embedded server: what is installed, and what each runs.

    python tests/integration/clients/table.py [NAME …]

installs them, each in an environment of its own below `.venv-clients`. `pytest -m clients` then runs their programs.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

__all__ = ["CLIENTS", "ENVIRONMENTS", "Client"]

ROOT = Path(__file__).resolve().parents[3]
ENVIRONMENTS = ROOT / ".venv-clients"


@dataclass(frozen=True, slots=True)
class Client:
    """A client, and the program in `programs/` that does what its users do.

    Attributes:
        packages: what is installed from PyPI; for a program that ends in `.mjs`, from npm.
    """

    name: str
    packages: tuple[str, ...]
    program: str

    @property
    def command(self) -> list[str]:
        """The command that runs the program in the client's environment."""
        program = str(Path(__file__).parent / "programs" / self.program)
        if self.is_node:
            return ["node", str(ENVIRONMENTS / self.name / self.program)]
        bin_folder = "Scripts" if sys.platform == "win32" else "bin"
        return [str(ENVIRONMENTS / self.name / bin_folder / "python"), "-B", program]

    @property
    def is_node(self) -> bool:
        return self.program.endswith(".mjs")

    @property
    def is_installed(self) -> bool:
        return (ENVIRONMENTS / self.name / _DONE).exists()


_DONE = "installed"

CLIENTS = (
    Client("openai-python", ("openai>=3.54",), "use_openai.py"),
    Client("azure", ("openai>=3.54",), "use_azure.py"),
    Client("langchain", ("langchain-openai>=1.7", "langchain-classic>=1.0.8"), "use_langchain.py"),
    # Its agents for assistants ended with this release, which needs the SDK's version 1.
    Client("llama-index", ("llama-index-agent-openai==0.4.12", "llama-index-llms-openai"), "use_llama_index.py"),
    Client("autogen", ("autogen-ext[openai]==0.7.5", "autogen-agentchat==0.7.5"), "use_autogen.py"),
    # Version 0.12 and later have no agent for assistants.
    Client("ag2", ("ag2[openai]<0.12",), "use_ag2.py"),
    Client("semantic-kernel", ("semantic-kernel>=1.45",), "use_semantic_kernel.py"),
    # Version 1 and later use Responses, over the SDK of OpenAI's agents.
    Client("agency-swarm", ("agency-swarm==0.7.2",), "use_agency_swarm.py"),
    # Its import loads a vocabulary from the network; the package of LiteLLM contains that file.
    Client("langroid", ("langroid>=0.69", "litellm>=1.110"), "use_langroid.py"),
    Client("litellm", ("litellm>=1.110",), "use_litellm.py"),
    Client("schemathesis", ("schemathesis==4.32.5", "openai>=3.54"), "use_schemathesis.py"),
    Client("openai-node", ("openai@>=6",), "use_openai_node.mjs"),
    Client("vercel-ai", ("ai@5", "@ai-sdk/openai@2", "zod@4"), "use_vercel_ai.mjs"),
)


def install(client: Client) -> None:
    """Install a client in an environment of its own, from nothing.

    Raises:
        subprocess.CalledProcessError: it cannot be installed.
    """
    folder = ENVIRONMENTS / client.name
    shutil.rmtree(folder, ignore_errors=True)
    if client.is_node:
        folder.mkdir(parents=True)
        (folder / "package.json").write_text('{"private": true, "type": "module"}\n', encoding="utf-8")
        # A shell file on Windows, so by its whole path.
        npm = shutil.which("npm") or "npm"
        subprocess.run(
            [npm, "install", "--silent", "--no-fund", "--no-audit", *client.packages], cwd=folder, check=True
        )
    elif uv := shutil.which("uv"):
        subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, folder], check=True)
        subprocess.run([uv, "pip", "install", "--quiet", "--python", client.command[0], *client.packages], check=True)
    else:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([client.command[0], "-m", "pip", "install", "--quiet", *client.packages], check=True)
    (folder / _DONE).touch()


def main(names: list[str]) -> int:
    """Install the named clients, or all; return 1 if one cannot be installed."""
    unknown = set(names) - {client.name for client in CLIENTS}
    if unknown:
        sys.exit(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(client.name for client in CLIENTS)}")
    failed = []
    for client in CLIENTS:
        if names and client.name not in names:
            continue
        try:
            install(client)
        except (subprocess.CalledProcessError, OSError) as exc:
            failed.append(client.name)
            print(f"{client.name}: not installed: {exc}", file=sys.stderr)
        else:
            print(f"{client.name}: installed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
