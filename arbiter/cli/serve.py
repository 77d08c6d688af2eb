"""``arbiter serve``: an OpenAI-compatible endpoint."""

import ipaddress
import logging
import os
import re
import sys
from pathlib import Path

import anyio
from rich.markup import escape

from arbiter.cli.console import guarded, stderr
from arbiter.cli.overrides import RingOverrides
from arbiter.config.config import Config
from arbiter.config.run_tables import RunType
from arbiter.exports.files import require
from arbiter.library.arbiter import Arbiter
from arbiter.protocols.errors import ConfigError

_AS_CONFIGURED = RingOverrides()
PORT = 8400


def serve_command(
    config: str = "pocket",
    /,
    *,
    host: str = "127.0.0.1",
    port: int = PORT,
    api_key_env: str | None = None,
    run_types: list[RunType] | None = None,
    overrides: RingOverrides = _AS_CONFIGURED,
    queue: int = 1024,
    drain: float = 30.0,
    out: Path | None = None,
    debug: bool = False,
) -> int:
    """Serve a configuration as an OpenAI-compatible endpoint, with a page that shows live problems.

    `/v1/chat/completions`, `/v1/completions` and `/v1/responses` answer with a chunk a step. The model's name carries
    the operating point: `arbiter` is what is configured, `arbiter:target` the target alone, `arbiter:router@0.4` the
    router at the threshold 0.4. Ctrl-C takes no more requests and lets those that are running end; a second one hands
    them back.

    Examples:

        arbiter serve
        arbiter serve configs/mine.toml --port 9000 --api-key-env ARBITER_KEYS
        arbiter up pocket-sglang -- arbiter serve pocket-sglang --out runs/served

    Parameters
    ----------
    config
        A configuration file, or the name of a built-in one.
    host
        The address to listen at. Anybody who reaches it can use the models: set `--api-key-env` for another one.
    port
        The port; 0 takes a free one, and tells it.
    api_key_env
        The environment variable that holds the keys, one or several with commas between them; clients send one as a
        bearer token.
    run_types
        Open only the models that these run types call (and the configured one), for a configuration whose servers are
        not all there. Else all that are configured.
    queue
        So many problems may wait for room in the ring (`--concurrency`); more are refused with 429.
    drain
        Seconds that running problems have to end when the endpoint is shut down; what is left is handed back with 503.
    out
        Keep the log of all requests in this folder: `arbiter show`, `replay` and `export` read it as that of a run.
    debug
        Show the traceback of an error.
    """

    def action() -> int:
        require("starlette", "gateway", "the endpoint")
        require("uvicorn", "gateway", "the endpoint")
        require("prometheus_client", "gateway", "the endpoint")
        if queue < 0 or drain < 0:
            raise ConfigError("--queue and --drain must be 0 or more")
        read = overrides.load(config)
        keys = _keys(api_key_env)
        if not keys and not _is_loopback(host):
            _tell(f"anybody who reaches {host} can use the models: set --api-key-env")
        _log_to_stderr()
        anyio.run(_serve, read, run_types, host, port, keys, queue, drain, out)
        return 0

    return guarded(debug, action)


async def _serve(
    config: Config,
    run_types: list[RunType] | None,
    host: str,
    port: int,
    keys: tuple[str, ...],
    queue: int,
    drain: float,
    out: Path | None,
) -> None:
    from arbiter.gateway.app import Gateway  # its packages are an extra
    from arbiter.gateway.uvicorn_server import bound, serve

    arbiter = Arbiter(config, run_types=run_types, out=out)
    gateway = Gateway(arbiter, keys=keys, queue=queue)
    with bound(host, port) as listening:
        at = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"
        _tell(f"loading {', '.join(config.models.configured()) or 'the models'} …")
        async with arbiter:
            types = ", ".join(arbiter.run_types)
            await serve(
                gateway,
                listening,
                drain,
                lambda: _tell(f"{config.run_type} at {at}/v1 (models: {types}); the page: {at}/"),
                lambda: _tell(_farewell(gateway.open, drain)),
            )
    _tell("closed")


def _farewell(problems: int, drain: float) -> str:
    if not problems:
        return "closing"
    return f"closing; still running: {problems}, for {drain:g} s at most; a second Ctrl-C hands them back at once"


def _keys(variable: str | None) -> tuple[str, ...]:
    """The keys that the environment variable holds. Raises ``ConfigError`` if there are none in it."""
    if variable is None:
        return ()
    keys = tuple(key for key in re.split(r"[,\s]+", os.environ.get(variable, "")) if key)
    if not keys or not all(key.isascii() and key.isprintable() for key in keys):
        raise ConfigError(
            f"--api-key-env: the environment variable {variable} holds no key: it must hold one or several, with "
            "commas between them, of ASCII letters, digits and signs"
        )
    return keys


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _log_to_stderr() -> None:
    """Requests, and what goes wrong: lines for people on a terminal, else JSON."""
    import structlog  # takes long to import

    is_terminal = sys.stderr.isatty()
    renderer = structlog.dev.ConsoleRenderer() if is_terminal else structlog.processors.JSONRenderer()
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[
                structlog.stdlib.add_log_level,
                structlog.stdlib.ExtraAdder(),
                structlog.processors.TimeStamper(fmt="iso"),
                structlog.processors.format_exc_info,
            ],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger("arbiter.access").setLevel(logging.INFO)


def _tell(line: str) -> None:
    stderr.print(escape(line), highlight=False, soft_wrap=True)
