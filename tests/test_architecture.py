"""Architecture rules: layers, sub-package layers, sizes, exports, one test file per source file."""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path

import monai
import pytest

import monai_anat

ROOT = Path(monai_anat.__file__).parent
FILES = sorted(path for path in ROOT.rglob("*.py"))
PACKAGES = sorted(path.parent.name for path in ROOT.glob("*/__init__.py"))
SUBPACKAGES = sorted(f"{path.parents[1].name}.{path.parent.name}" for path in ROOT.glob("*/*/__init__.py"))
DEEPER = sorted(".".join(path.parent.relative_to(ROOT).parts) for path in ROOT.glob("*/*/*/__init__.py"))

#: package or top-level module -> packages and modules that it may import (itself is always allowed)
FOUNDATION = {"keys", "precision", "distributed", "schedules", "seeding", "resources", "files", "intensities"}
ALLOWED = {
    "keys": set(),
    "schedules": set(),
    "seeding": set(),
    "precision": set(),
    "distributed": set(),
    "resources": set(),
    "files": set(),
    "intensities": set(),
    "transforms": FOUNDATION,
    "losses": FOUNDATION,
    "networks": FOUNDATION,
    "metrics": FOUNDATION,
    "visualize": FOUNDATION,
    "data": FOUNDATION | {"transforms"},
    "methods": FOUNDATION | {"transforms", "losses", "networks"},
    "engines": FOUNDATION | {"metrics", "visualize", "data", "methods.base"},
    "handlers": FOUNDATION | {"metrics", "visualize", "data", "methods.base", "engines"},
    "evaluation": FOUNDATION
    | {"transforms", "losses", "networks", "metrics", "visualize", "data", "methods", "engines", "handlers"},
}
#: sub-package -> sub-packages of its own package that it may import; files at the top of the package may import all
SUBLAYERS: dict[str, set[str]] = {
    "networks.backbones": set(),
    "networks.heads": {"networks.backbones"},
    "networks.pretrained": {"networks.backbones", "networks.heads"},
    "data.reading": {"data"},
    "data.lists": {"data", "data.reading"},
    "data.preparation": {"data", "data.lists", "data.reading"},
    "evaluation.probes": {"evaluation"},
    "evaluation.reports": {"evaluation", "evaluation.probes"},
}
ANYTHING = {"__init__", "__main__", "_version", "cli", "demo"}
#: dependencies that a user may not have
OPTIONAL = {"pyarrow", "mlflow", "onnx", "onnxruntime", "onnxscript"}


def name_of(path: Path) -> str:
    parts = ("monai_anat", *path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


#: dotted names of all modules of the package
MODULES = {name_of(path) for path in FILES}


def imports_of(path: Path) -> Iterator[tuple[ast.stmt, str]]:
    """Every import of a file, as the absolute name of what is imported."""
    package = name_of(path).split(".") if path.name == "__init__.py" else name_of(path).split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                yield node, f"{module}.{alias.name}"


def export_order(name: str) -> tuple[int, str]:
    """Constants, classes, functions, as the linter sorts them."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


def inner(name: str) -> str | None:
    return name.removeprefix("monai_anat.") if name.startswith("monai_anat.") else None


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_arrows_point_down(path):
    package = name_of(path).split(".")[1] if name_of(path) != "monai_anat" else "__init__"
    if package in ANYTHING:
        return
    for _, imported in imports_of(path):
        target = inner(imported)
        if target is None or target.split(".")[0] in (package, "_version", "__version__"):
            continue
        allowed = any(target == name or target.startswith(f"{name}.") for name in ALLOWED[package])
        assert allowed, f"{name_of(path)} imports {imported}; {package} may import {sorted(ALLOWED[package])}"


@pytest.mark.parametrize("path", [path for path in FILES if len(path.relative_to(ROOT).parts) >= 3], ids=name_of)
def test_subpackage_imports_point_down(path):
    own = ".".join(name_of(path).split(".")[1:3])
    for _, imported in imports_of(path):
        target = inner(imported)
        parts = target.split(".") if target else []
        if not parts or parts[0] != own.split(".")[0]:
            continue
        other = ".".join(parts[:2])
        other = other if other in SUBPACKAGES else parts[0]
        allowed = other == own or other in SUBLAYERS[own]
        assert allowed, f"{name_of(path)} imports {imported}; {own} may import {sorted(SUBLAYERS[own])}"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_stand_at_the_top(path):
    tree = ast.parse(path.read_text())
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            for node in ast.walk(function):
                if isinstance(node, ast.Import | ast.ImportFrom):
                    names = {node.module or ""} if isinstance(node, ast.ImportFrom) else {a.name for a in node.names}
                    roots = {name.split(".")[0] for name in names}
                    assert roots <= OPTIONAL, f"{path}:{node.lineno} imports {names} inside a function"
    for node, imported in imports_of(path):
        assert not imported.endswith(".*"), f"{path}:{node.lineno} imports *"


def test_no_import_cycle():
    modules = {name_of(path): path for path in FILES}
    graph: dict[str, set[str]] = {}
    for name, path in modules.items():
        targets = set()
        for _, imported in imports_of(path):
            module = imported if imported in modules else imported.rpartition(".")[0]
            if module in modules and module != name:
                targets.add(module)
        graph[name] = targets
    # a package's __init__ imports its files; a file that imports its own package would be a cycle
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, f"import cycle: {' -> '.join([*trail[trail.index(name) :], name])}"
        if name in done:
            return
        for target in sorted(graph[name]):
            visit(target, (*trail, name))
        done.add(name)

    for name in graph:
        visit(name, ())


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_sizes(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 500, f"{path} has more than 500 lines: split it"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node, clean=False)
            lines = (node.end_lineno or 0) - node.lineno + 1 - (len(docstring.splitlines()) if docstring else 0)
            assert lines <= 60, f"{path}:{node.lineno} {node.name} has {lines} lines: split it"


@pytest.mark.parametrize("package", PACKAGES)
def test_exports_are_sorted_documented_and_no_module_names(package):
    names = list(importlib.import_module(f"monai_anat.{package}").__all__)
    assert names == sorted(names, key=export_order)
    public: set[str] = set()
    for path in (ROOT / package).rglob("*.py"):
        if path.name != "__init__.py":
            module = importlib.import_module(name_of(path))
            own = list(module.__all__)
            assert own == sorted(own, key=export_order), f"{module.__name__}.__all__ is not sorted"
            public |= set(own)
            modules = {file.stem for file in path.parent.glob("*.py")}
            assert not set(own) & modules, f"a public name of {module.__name__} hides a module"
    assert set(names) <= public
    for name in names:
        item = getattr(importlib.import_module(f"monai_anat.{package}"), name)
        assert item.__doc__ or not callable(item), f"{package}.{name} has no docstring"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_files_import_only_exported_names(path):
    """A helper that another file imports is exported by the file that defines it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("monai_anat."):
            module = importlib.import_module(node.module)
            exported = getattr(module, "__all__", None)
            if exported is None:
                continue
            for alias in node.names:
                known = alias.name in exported or f"{node.module}.{alias.name}" in MODULES
                assert known, f"{path}:{node.lineno} imports {alias.name}, which {node.module} does not export"


def test_no_file_name_occurs_in_three_packages():
    owners: dict[str, set[str]] = {}
    for path in FILES:
        if path.name != "__init__.py":
            owners.setdefault(path.name, set()).add(str(path.parent.relative_to(ROOT)))
    crowded = {name: sorted(places) for name, places in owners.items() if len(places) > 2}
    assert not crowded, f"file names in three or more packages: {crowded}"


def test_no_class_name_of_monai_is_shadowed():
    taken: set[str] = set()
    for package in ("transforms", "losses", "networks", "metrics", "handlers", "data", "engines", "inferers", "apps"):
        for _, module in inspect.getmembers(importlib.import_module(f"monai.{package}"), inspect.ismodule):
            taken |= {name for name, item in inspect.getmembers(module, inspect.isclass)}
        taken |= {name for name, _ in inspect.getmembers(getattr(monai, package), inspect.isclass)}
    ours: set[str] = set()
    for name in PACKAGES:
        package = importlib.import_module(f"monai_anat.{name}")
        ours |= {item for item in package.__all__ if inspect.isclass(getattr(package, item))}
    clashes = {name for name in ours & taken if _module_of(taken, name).startswith("monai.")}
    assert not clashes, f"MONAI's class of this name would win: {sorted(clashes)}"


def _module_of(taken: set[str], name: str) -> str:
    for package in ("transforms", "losses", "networks", "metrics", "handlers", "data", "engines", "inferers", "apps"):
        for _, module in inspect.getmembers(importlib.import_module(f"monai.{package}"), inspect.ismodule):
            item = getattr(module, name, None)
            if inspect.isclass(item) and item.__module__.startswith("monai."):
                return item.__module__
    return ""


@pytest.mark.parametrize(
    "path",
    [p for p in FILES if p.name != "__init__.py" and p.stem not in ("_version", "__main__", "keys")],
    ids=name_of,
)
def test_every_source_file_has_its_test_file(path):
    relative = path.relative_to(ROOT)
    tests = Path(__file__).parent / "unit" / relative.parent / f"test_{relative.name}"
    assert tests.exists(), f"{tests} is missing"


def test_package_list_is_complete():
    text = (ROOT.parent / "setup.cfg").read_text()
    listed = text.split("packages =\n")[1].split("# the bundles")[0].split()
    assert sorted(listed) == sorted(
        ["monai_anat", "monai_anat.bundles", *(f"monai_anat.{name}" for name in PACKAGES + SUBPACKAGES + DEEPER)]
    )
