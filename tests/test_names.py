"""A name stands for one thing, except that a command may have the name of what it runs."""

from pathlib import Path

from benchmarks.checkout import class_names, module_names, read_source

SOURCE = read_source(Path(__file__).parent.parent)


def test_a_module_name_stands_for_one_module() -> None:
    names = module_names(SOURCE)
    assert names.total > 0
    assert names.repeated == {}


def test_a_public_class_name_stands_for_one_class() -> None:
    names = class_names(SOURCE)
    assert names.total > 0
    assert names.repeated == {}
