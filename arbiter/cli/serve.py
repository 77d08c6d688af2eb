"""``arbiter serve``: serve a configuration as an OpenAI-compatible endpoint."""

import logging
import os
import re
import shlex
import sys
from collections.abc import Generator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio

from arbiter.cli.console import guarded
from arbiter.cli.endings import say
from arbiter.cli.model_options import NO_MODELS, ModelOptions, origin
from arbiter.cli.overrides import RingOverrides
from arbiter.cli.terminal import visible
from arbiter.config.config import Config, override
from arbiter.config.run_tables import RunType
from arbiter.config.serve_tables import StreamUnit
from arbiter.exports.files import require
from arbiter.gateway.host_names import is_loopback
from arbiter.gateway.listening_socket import address, bound
from arbiter.library.arbiter import Arbiter
from arbiter.protocols.errors import ConfigError
from arbiter.runs.finding import refuse_last

if TYPE_CHECKING:
    from arbiter.gateway.app import Gateway
    from arbiter.gateway.live_spans import LiveSpans

_AS_CONFIGURED = RingOverrides()
PORT = 8400


def serve_command(
    config: str | None = None,
    /,
    *,
    host: str = "127.0.0.1",
    port: int = PORT,
    api_key_env: str | None = None,
    run_types: list[RunType] | None = None,
    overrides: RingOverrides = _AS_CONFIGURED,
    models: ModelOptions = NO_MODELS,
    queue: int = 1024,
    drain: float = 30.0,
    out: Path | None = None,
    alias: list[str] | None = None,
    shadow: float | None = None,
    stream: StreamUnit | None = None,
    otlp: str | None = None,
    otlp_texts: bool = False,
    allow_host: list[str] | None = None,
    debug: bool = False,
) -> int:
    """Serve a configuration as an OpenAI-compatible endpoint, with a web page that shows live problems.

    `/v1/chat/completions`, `/v1/completions` and `/v1/responses` stream one chunk per step, or tokens as they are
    written (`--stream tokens`). The model name selects the run type and threshold: `arbiter` as configured,
    `arbiter:target` the target alone, `arbiter:router@0.4` the router with threshold 0.4. The first Ctrl-C refuses new
    requests and waits for those in progress; a second one ends them immediately.

    Examples:

        arbiter serve
        arbiter serve --draft ./draft --target http://localhost:30001
        arbiter serve configs/mine.toml --port 9000 --api-key-env ARBITER_KEYS
        arbiter up pocket-sglang -- arbiter serve pocket-sglang --out runs/served

    Parameters
    ----------
    config
        A configuration file, or the name of a built-in configuration. `--draft` and `--target` name the models instead.
        Default: `pocket`.
    host
        The address to listen on. Anybody who can reach it can use the models: for an address other than 127.0.0.1, also
        set `--api-key-env`.
    port
        The port to listen on. 0 chooses a free port and prints it.
    api_key_env
        The name of the environment variable with the API keys, one or several, separated by commas. Clients send one of
        them as a bearer token. Default: no key is needed.
    run_types
        Open only the models that these run types and the configured one call, for example `target`. Use this option if
        not all servers of the configuration are running. Default: open all configured models.
    queue
        The number of problems that may wait for a slot in the ring (`--concurrency`). Further requests are refused with
        status 429.
    drain
        The time in seconds that problems in progress have to end at shutdown. After it, their requests are answered
        with status 503.
    out
        Keep the event log of all requests in this folder. `arbiter show`, `replay` and `export` read it like that of a
        run. Default: no log is kept.
    alias
        A further name of a model, as `NAME=MODEL`, for clients that insist on one: `gpt-4o=arbiter:router`. The option
        can be given several times.
    shadow
        The share of the requests, from 0 to 1, that the target alone also answers, in the background, when capacity is
        free. The metrics and the web page then have the measured ratio of the costs next to the
        estimated one. All models need a price. Default: `serve.shadow` of the configuration (0).
    stream
        How streamed answers arrive. `steps`: a chunk for each step, once it is kept. `tokens`: the steps of a target
        that replaces a rejected draft, and those of the run types `target` and `draft`, arrive while they are written.
        Default: `serve.stream` of the configuration (`steps`).
    otlp
        Send OpenTelemetry spans of each problem to the collector at this URL, by OTLP over HTTP, when the problem has
        ended. The spans have no text of questions or steps. Needs the extra `otel`.
    otlp_texts
        The spans have the questions, the steps and the answers too.
    allow_host
        A further host name for which requests are answered. The option can be given several times. Without a key, only
        loopback names, `--host`, and the address of the connection are answered. With a key, every name is.
    debug
        Show the traceback of an error.
    """

    def action() -> int:
        require("starlette", "gateway", "the endpoint")
        require("uvicorn", "gateway", "the endpoint")
        require("prometheus_client", "gateway", "the endpoint")
        if queue < 0 or drain < 0:
            raise ConfigError(f"--queue {queue} and --drain {drain:g}: both must be 0 or more")
        if out is not None:
            refuse_last(out)
        loaded = overrides.load(origin(config, models, overrides.run_type, "pocket"))
        if shadow is not None:
            loaded = override(loaded, {"serve": {"shadow": shadow}}, "--shadow")
        if stream is not None:
            loaded = override(loaded, {"serve": {"stream": stream}}, "--stream")
        keys = _keys(api_key_env)
        if not keys and not is_loopback(host):
            say(f"warning: anybody who can reach {host} can use the models; set --api-key-env to require a key")
        from arbiter.gateway.app import Gateway  # its packages are an extra

        with _spans(loaded, otlp, otlp_texts) as spans:
            gateway = Gateway(
                Arbiter(loaded, run_types=run_types, out=out),
                keys=keys,
                hosts=(host, *(allow_host or ())),
                aliases=_aliases(alias or []),
                queue=queue,
                spans=spans,
            )
            _log_to_stderr()
            anyio.run(_serve, gateway, host, port, drain, out, bool(keys))
        return 0

    return guarded(debug, action)


@contextmanager
def _spans(config: Config, endpoint: str | None, texts: bool) -> "Generator[LiveSpans | None]":
    """Make what sends spans to ``endpoint``, and close it at the end. Raises ``ConfigError`` for texts of no spans."""
    if endpoint is None:
        if texts:
            raise ConfigError("--otlp-texts is about the spans: add --otlp URL")
        yield None
        return
    require("opentelemetry.sdk", "otel", "the export of spans")
    require("opentelemetry.exporter.otlp.proto.http", "otel", "the export of spans")
    from arbiter.gateway.live_spans import LiveSpans  # its packages are an extra

    spans = LiveSpans(config, endpoint, texts=texts)
    try:
        yield spans
    finally:
        spans.close()


async def _serve(gateway: "Gateway", host: str, port: int, drain: float, out: Path | None, has_keys: bool) -> None:
    from arbiter.gateway.uvicorn_server import serve  # its packages are an extra

    arbiter, config = gateway.arbiter, gateway.arbiter.config
    with bound(host, port) as listening:
        at = address(host, listening)
        say(f"loading {', '.join(config.models.configured()) or 'the models'} …")
        async with arbiter:
            gateway.check()
            types = ", ".join(arbiter.run_types)
            await serve(
                gateway,
                listening,
                drain,
                lambda: _announce(at, config.run_type, types, has_keys),
                lambda: say(_closing(gateway.open, drain)),
            )
    say("closed" if out is None else f"closed; to see the calls: arbiter show {out}")


def _announce(at: str, run_type: str, types: str, has_keys: bool) -> None:
    """Print the addresses of the endpoint, and how OpenAI clients find it."""
    say(f"serving {run_type} at {at}/v1 (run types: {types})")
    say(f"web page: {at}/")
    key = "one of the keys" if has_keys else "none"
    say(f"for OpenAI clients: export OPENAI_BASE_URL={at}/v1 OPENAI_API_KEY={shlex.quote(key)}; Ctrl-C ends it")


def _closing(problems: int, drain: float) -> str:
    if not problems:
        return "closing"
    return f"closing; problems in progress: {problems}, for at most {drain:g} s; a second Ctrl-C ends them immediately"


def _keys(variable: str | None) -> tuple[str, ...]:
    """Return the API keys in the environment variable. Raises ``ConfigError`` if it holds no valid key."""
    if variable is None:
        return ()
    keys = tuple(key for key in re.split(r"[,\s]+", os.environ.get(variable, "")) if key)
    if not keys or not all(key.isascii() and key.isprintable() for key in keys):
        raise ConfigError(
            f"--api-key-env: the environment variable {variable} holds no valid key: set it to one or several keys of "
            "printable ASCII characters, separated by commas"
        )
    return keys


def _aliases(given: list[str]) -> dict[str, str]:
    """Return the aliases, with the model of each. Raises ``ConfigError`` if one is not ``NAME=MODEL``."""
    aliases: dict[str, str] = {}
    for one in given:
        name, equals, model = one.partition("=")
        if not (name and equals and model) or name in aliases:
            raise ConfigError(f"--alias {one!r}: write NAME=MODEL, as in gpt-4o=arbiter:router, with each name once")
        aliases[name] = model
    return aliases


def _log_to_stderr() -> None:
    """Log requests and errors to standard error: as readable lines on a terminal, otherwise as JSON."""
    import structlog  # takes long to import

    is_terminal = sys.stderr.isatty()
    rendering = [_visible, structlog.dev.ConsoleRenderer()] if is_terminal else [structlog.processors.JSONRenderer()]
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[
                structlog.stdlib.add_log_level,
                structlog.stdlib.ExtraAdder(),
                structlog.processors.TimeStamper(fmt="iso"),
                structlog.processors.format_exc_info,
            ],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
        )
    )
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger("arbiter.access").setLevel(logging.INFO)


def _visible(_logger: object, _method: str, values: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return {name: visible(value) if isinstance(value, str) else value for name, value in values.items()}
