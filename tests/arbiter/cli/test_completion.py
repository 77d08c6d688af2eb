"""Shell completion: each shell's script names the commands, and that of bash completes them."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from arbiter.cli.application import COMMANDS, app

ASK = """. "$1"; shift
COMP_WORDS=(arbiter "$@"); COMP_CWORD=$#
_arbiter; printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.slow
def test_the_script_of_a_shell_is_installed_and_names_the_commands_and_their_options(
    shell: str,
    arbiter: Callable[..., subprocess.CompletedProcess[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    done = arbiter("--install-completion", "--shell", shell, "--output", "script")
    assert (done.returncode, done.stderr) == (0, "")
    words = (tmp_path / "script").read_text(encoding="utf-8")
    assert {"bench", "train"} <= {*COMMANDS}
    assert [word for word in (*COMMANDS, "run-type", "judge") if word not in words] == []


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        (["e"], {"evaluate", "export"}),
        (["train", ""], {"router", "prm"}),
        (["bench", "--run-t"], {"--run-type"}),
        (["bench", "--run-type", "ra"], {"random"}),
    ],
)
@pytest.mark.slow
def test_bash_offers_commands_options_and_their_choices(typed: list[str], offered: set[str], tmp_path: Path) -> None:
    script = tmp_path / "arbiter"
    script.write_text(app.generate_completion(shell="bash"), encoding="utf-8")  # noqa: S604 - it starts no shell
    done = subprocess.run(["bash", "-c", ASK, "ask", script, *typed], capture_output=True, text=True, check=True)
    assert offered <= set(done.stdout.split())
    assert done.stderr == ""
