"""``arbiter fit``: learn the model of the run type ``pomdp`` from collected rows, and write it into a configuration."""

from pathlib import Path
from typing import Literal

import msgspec

from arbiter.cli.console import guarded, stdout
from arbiter.cli.endings import say
from arbiter.cli.terminal import write_json
from arbiter.config.config import load_config, override
from arbiter.data.training_rows import Split
from arbiter.protocols.errors import ConfigError, RunError, os_reason
from arbiter.runs.file_replacement import replace_file
from arbiter.runs.finding import resolve
from arbiter.runs.stored_config import as_toml


def fit_command(
    config: str,
    out: Path,
    /,
    *,
    data: Path,
    score: Literal["confidence", "prm"] = "confidence",
    bins: int = 8,
    split: Split = "train",
    json: bool = False,
    debug: bool = False,
) -> int:
    """Learn from collected steps how often they are right, and write a configuration of the run type `pomdp`.

    The process rewards of the rows say how probably a step is right. The rows then tell how the draft's confidence, or
    the process reward itself, differs between steps that are right and wrong (docs/explanation/beliefs.md). It needs
    the extra `train`.

    Examples:

        arbiter fit pocket pomdp.toml --data runs/collection
        arbiter fit pocket pomdp.toml --data runs/collection --score prm --bins 5

    Parameters
    ----------
    config
        A configuration file, or the name of a built-in configuration.
    out
        The configuration file to write, with the run type `pomdp` and its table.
    data
        The folder of a collection (`arbiter collect`), `@last` or the beginning of its name (see `arbiter runs`), or
        its `rows.jsonl`.
    score
        What the policy sees of a draft: its own `confidence`, which the rows must have, or its process reward (`prm`).
    bins
        The number of bins of the scores, 2 or more.
    split
        The split of the rows to learn from.
    json
        Print only the table, as JSON, on standard output.
    debug
        Show the traceback of an error.
    """

    def action() -> int:
        from arbiter.evaluation.evaluate import rows_of
        from arbiter.evaluation.step_models import learned_model
        from arbiter.training.training_data import read_rows

        if bins < 2:
            raise ConfigError(f"--bins {bins}: give 2 or more")
        if Path(config).is_file() and out.resolve() == Path(config).resolve():
            raise ConfigError(
                f"OUT {out} is the configuration itself, which would lose its comments: give another path"
            )
        rows = rows_of(read_rows(resolve(data, ("collection",))), split, str(data))
        table = {"score": score, **msgspec.to_builtins(learned_model(rows, score, bins))}
        changed = override(load_config(config), {"run_type": "pomdp", "pomdp": table}, "fit")
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"cannot write {out}: {os_reason(error)}") from error
        replace_file(out, as_toml(changed))
        if json:
            write_json(changed.pomdp)
        else:
            for key, value in table.items():
                stdout.print(f"{key} = {value}", highlight=False)
        say(f"wrote {out}, with all keys of the configuration and without its comments")
        say(f"to use it: arbiter bench {out}")
        return 0

    return guarded(debug, action)
