"""The modules import one way: there is no circle, not even one that only a type checker or a late import closes."""

from collections import Counter
from graphlib import CycleError, TopologicalSorter

import grimp

MODULES_IN_A_FOLDER = 17


def imported_by_each(package: str) -> dict[str, set[str]]:
    graph = grimp.build_graph(package, exclude_type_checking_imports=False, cache_dir=None)
    return {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}


def test_no_circle_among_modules():
    imports = imported_by_each("fra_dist")
    assert len(imports) > 300
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        raise AssertionError(f"modules that import each other: {' -> '.join(reversed(error.args[1]))}") from None


def test_a_circle_behind_type_checking_and_a_late_import_is_seen(tmp_path, monkeypatch):
    folder = tmp_path / "circular"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "one.py").write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from circular.two import f\n"
    )
    (folder / "two.py").write_text("def f():\n    from circular.one import TYPE_CHECKING\n")
    monkeypatch.syspath_prepend(tmp_path)
    imports = imported_by_each("circular")
    assert imports["circular.one"] == {"circular.two"}
    assert imports["circular.two"] == {"circular.one"}


def test_no_folder_has_more_modules_than_a_reader_can_hold():
    modules = imported_by_each("fra_dist")
    packages = {module.rpartition(".")[0] for module in modules}
    folders = Counter(module.rpartition(".")[0] for module in modules if module not in packages)
    crowded = {folder: count for folder, count in folders.items() if count > MODULES_IN_A_FOLDER}
    assert crowded == {}
