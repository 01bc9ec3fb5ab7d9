"""The command `serve`: the embedded server in a separate process."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batchrun.cli.app import cli
from batchrun.cli.console import note
from batchrun.cli.env_file import announce_env_file, env_file_option, variables_for
from batchrun.cli.logs import with_log
from batchrun.cli.options import LocalPath
from batchrun.errors import InputError

if TYPE_CHECKING:
    from batchrun.server import ServerSettings
    from batchrun.server.responders.base import Responder
    from batchrun.server.search.file_search import Embedder

__all__ = ["serve"]

_ALLOWANCE = click.IntRange(1, 1_000_000_000)


@cli.command()
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    metavar="ADDRESS",
    help="Address to listen on; a public address needs --key",
)
@click.option(
    "--port",
    default=8000,
    show_default=True,
    type=click.IntRange(0, 65535),
    metavar="PORT",
    help="Port to listen on; 0 selects a free one",
)
@click.option("--data", type=LocalPath(path_type=Path), help="SQLite file for all objects. Default: a temporary file")
@click.option(
    "--key",
    "keys",
    multiple=True,
    envvar="BATCHRUN_SERVER_KEYS",
    metavar="KEY",
    help="API key to accept. May be repeated. Safer in the environment variable BATCHRUN_SERVER_KEYS, separated by "
    "spaces: other users of the machine can read a command line",
)
@click.option(
    "--allow-host",
    "allowed_hosts",
    multiple=True,
    metavar="NAME",
    help="Name besides localhost under which clients may address a server without keys. May be repeated",
)
@click.option(
    "--allow-origin",
    "allowed_origins",
    multiple=True,
    metavar="ORIGIN",
    help="Web page that may use the server, such as http://localhost:3000. May be repeated",
)
@click.option("--script", type=LocalPath(path_type=Path), help="File of rules to answer from", metavar="FILE")
@click.option("--upstream", help="Base URL of a Chat Completions API that answers", metavar="URL")
@click.option("--upstream-key-env", help="Environment variable with the API key of the upstream", metavar="NAME")
@env_file_option
@click.option(
    "--upstream-model", "models", multiple=True, help="Model for /models to list. May be repeated", metavar="NAME"
)
@click.option("--embeddings", help="Embedding model of the upstream that also ranks file searches", metavar="MODEL")
@click.option("--faults", type=LocalPath(path_type=Path), help="File of faults to inject", metavar="FILE")
@click.option("--rpm", type=_ALLOWANCE, help="Maximum requests per minute for each key", metavar="N")
@click.option("--tpm", type=_ALLOWANCE, help="Maximum tokens per minute for each key", metavar="N")
@with_log()
def serve(
    host: str,
    port: int,
    data: Path | None,
    keys: tuple[str, ...],
    allowed_hosts: tuple[str, ...],
    allowed_origins: tuple[str, ...],
    embeddings: str | None,
    faults: Path | None,
    rpm: int | None,
    tpm: int | None,
    **responder: Any,
) -> None:
    """Serve the Assistants API from one SQLite file to any client.

    Answers come from the offline tutor, from a file of rules (--script) or from any model (--upstream).
    """
    from batchrun.server import ServerError, ServerSettings, serve_forever
    from batchrun.server.responders.fault_injection import FaultPlan, FaultyResponder
    from batchrun.server.sandbox.code_interpreter import find_sandbox

    def started(url: str) -> None:
        note(_announcement(url, settings, _responder_text(faults=faults, **responder), sandbox))
        if responder["upstream"] is not None:
            _check_upstream(responder["upstream"], _upstream_key(responder["upstream_key_env"]))

    try:
        settings = ServerSettings(
            host=host,
            port=port,
            data=data,
            api_keys=keys,
            allowed_hosts=allowed_hosts,
            allowed_origins=allowed_origins,
            requests_per_minute=rpm,
            tokens_per_minute=tpm,
        )
        chosen = _responder(**responder)
        embedder = _embedder(embeddings, responder["upstream"], responder["upstream_key_env"])
        plan = FaultPlan.load(faults) if faults is not None else None
        sandbox = getattr(find_sandbox(), "name", None)
        serve_forever(
            settings,
            chosen if plan is None else FaultyResponder(chosen, plan),
            faults=plan,
            embedder=embedder,
            on_started=started,
        )
    except (ServerError, OSError) as exc:
        raise InputError(str(exc)) from exc


def _responder(
    script: Path | None, upstream: str | None, upstream_key_env: str | None, models: tuple[str, ...]
) -> Responder:
    """Return the responder. Its key comes from an environment variable, so that no command line shows it."""
    if script is not None and upstream is not None:
        raise InputError("--script and --upstream cannot be combined; give one of them")
    if upstream is None and (upstream_key_env is not None or models):
        raise InputError("--upstream-key-env and --upstream-model need --upstream")
    if upstream is not None:
        from batchrun.server.responders.upstream import UpstreamResponder

        return UpstreamResponder(upstream, _upstream_key(upstream_key_env), models=models)
    if script is not None:
        from batchrun.server.responders.script import ScriptResponder

        return ScriptResponder(script)
    from batchrun.server.responders.tutor import TutorResponder

    return TutorResponder()


def _embedder(model: str | None, upstream: str | None, upstream_key_env: str | None) -> Embedder | None:
    if model is None:
        return None
    if upstream is None:
        raise InputError("--embeddings needs --upstream")
    from batchrun.server.search.embeddings import UpstreamEmbedder

    return UpstreamEmbedder(upstream, _upstream_key(upstream_key_env), model)


def _upstream_key(name: str | None) -> str | None:
    key = variables_for().expand(name, "upstream-key-env") if name is not None else None
    announce_env_file()
    if name is not None and not key:
        raise InputError(f"--upstream-key-env: environment variable {name} is not set")
    return key


def _check_upstream(url: str, key: str | None) -> None:
    """Print whether the upstream can be reached, without delaying the server."""
    import threading

    import anyio

    from batchrun.server.responders.upstream_check import upstream_line

    threading.Thread(target=lambda: note(anyio.run(upstream_line, url, key)), daemon=True).start()


def _responder_text(*, script: Path | None, upstream: str | None, faults: Path | None, **_: Any) -> str:
    """Return a text about the responder. An upstream URL with a secret is refused before, so that it can be shown."""
    sources = {"upstream": upstream, "script": script}
    name = next((f"{kind} {source}" for kind, source in sources.items() if source is not None), "tutor")
    return name if faults is None else f"{name} with the faults of {faults}"


def _announcement(url: str, settings: ServerSettings, answering: str, sandbox: str | None) -> str:
    where = f"objects in {settings.data}" if settings.data else "objects in a temporary file, deleted at the end"
    keys = f"{len(settings.api_keys)} accepted" if settings.api_keys else "any key or none accepted"
    runs_code = sandbox or "none, so code_interpreter fails (install bubblewrap or the extra [sandbox])"
    return f"serving {url} · answered by {answering} · {where} · keys: {keys} · sandbox: {runs_code}"
