"""What is installed: nothing but ``arbiter`` at the top level, whatever a user's own folders are called."""

import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
OWN = "from actors.mine import NAME; import protocols; import arbiter.actors.ring, arbiter.protocols.ids; "
SHOW = "import arbiter; print(NAME, protocols.NAME, arbiter.__file__, arbiter.actors.ring.__file__)"


def build(target: str, source: Path, out: Path) -> Path:
    """Build a distribution of ``source`` without the network; the file that is made."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", str(out)]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    (built,) = out.iterdir()
    return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that is built from the source distribution, as an installer builds it."""
    folder = tmp_path_factory.mktemp("distributions")
    with tarfile.open(build("sdist", ROOT, folder / "sdist")) as archive:
        archive.extractall(folder / "source", filter="data")
    (source,) = (folder / "source").iterdir()
    return build("wheel", source, folder / "wheel")


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """The folder of a program that has packages called ``actors`` and ``protocols``."""
    for name in ("actors", "protocols"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text('NAME = "my protocols"\n')
    (tmp_path / "actors" / "mine.py").write_text('NAME = "my actors"\n')
    return tmp_path


def run_in(folder: Path, *path: Path) -> str:
    command = [sys.executable, "-c", OWN + SHOW]
    environment = {"PYTHONPATH": ":".join(map(str, (folder, *path)))}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.stdout.strip()


def test_a_wheel_puts_nothing_but_arbiter_at_the_top_level(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"arbiter"}
    assert len(names) == len(set(names))


def test_a_wheel_has_every_module_of_the_checkout_and_the_configurations(wheel: Path) -> None:
    found = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("arbiter/")}
    linked = {
        f"arbiter/{file.relative_to(ROOT)}"
        for folder in ("actors", "configs", "protocols")
        for file in (ROOT / folder).rglob("*.*")
        if file.suffix in (".py", ".toml")
    }
    own = {str(file.relative_to(ROOT)) for file in (ROOT / "arbiter").rglob("*.py")}
    assert linked
    assert linked | own <= found


def test_an_installed_wheel_lives_beside_a_users_own_actors(wheel: Path, program: Path, tmp_path: Path) -> None:
    installed = tmp_path / "installed"
    zipfile.ZipFile(wheel).extractall(installed)  # noqa: S202 - our own archive
    assert run_in(program, installed) == " ".join(
        ["my actors", "my protocols", str(installed / "arbiter/__init__.py"), str(installed / "arbiter/actors/ring.py")]
    )


def test_an_editable_install_lives_beside_a_users_own_actors(program: Path) -> None:
    assert run_in(program) == f"my actors my protocols {ROOT / 'arbiter/__init__.py'} {ROOT / 'arbiter/actors/ring.py'}"


def test_the_linked_folders_are_the_ones_at_the_root() -> None:
    for name in ("actors", "protocols"):
        assert (ROOT / "arbiter" / name).readlink() == Path("..") / name


def test_types_are_checked_in_the_linked_folders_too() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["pyright"]
    assert {"arbiter/actors", "arbiter/protocols"} <= set(settings["include"])  # pyright follows no link by itself


def test_a_wheel_has_the_page_of_the_viewer_and_names_the_licences_of_its_parts(wheel: Path) -> None:
    page = ROOT / "arbiter" / "view" / "page"
    files = {path.relative_to(ROOT).as_posix() for path in page.rglob("*") if path.is_file()}
    licences = [name for name in files if name.endswith("/LICENSE")]
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (metadata,) = [archive.read(name).decode() for name in names if name.endswith(".dist-info/METADATA")]
    assert len(licences) == 2
    assert files <= {*names}
    assert {f"License-File: {name}" for name in ("LICENSE", *licences)} <= {*metadata.splitlines()}
