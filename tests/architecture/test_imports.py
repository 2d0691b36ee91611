"""Who may import whom. The table here is the source of truth."""

from __future__ import annotations

import sys
from graphlib import CycleError, TopologicalSorter
from typing import Final

import pytest

from tests.architecture.imports import (
    ROOT,
    imports,
    inner_imports,
    modules,
    outer_imports,
    reads_files,
)

ROWS: Final = (
    ("app.aes", "app.dumps", "app.outlets"),
    ("app", "app.cpu", "app.errors", "app.limits", "app.fields", "app.runtime", "app.loading"),
    ("app.graph_check",),
    ("app.files", "app.tensors", "app.schedule", "app.ledger", "app.batch"),
    ("app.objects", "app.card", "app.picture_files"),
    ("app.release",),
    ("app.manifest",),
    (
        "app.bundle",
        "app.keys",
        "app.engine",
        "app.stream",
        "app.wiring",
        "app.config",
        "app.pictures",
    ),
    ("app.runner", "app.audit", "app.acceptance"),
    ("app.access.*",),
    ("app.serving.*",),
    ("app.server.*",),
    ("app.__main__",),
    ("tools.terminal",),
    ("tools", "tools.errors", "tools.sizes", "tools.files", "tools.launcher"),
    ("tools.console",),
    ("tools.supplied", "tools.confinement.*"),
    ("tools.command_line", "tools.planner.*"),
    ("tools.graph.*", "tools.figures.*", "tools.report.*"),
    ("tools.model_folder", "tools.preparation", "tools.access_policy"),
    ("tools.bundling.*", "tools.serving_client.*"),
    ("tools.accuracy.*", "tools.image.*", "tools.training.*"),
    ("tools.zoo.*",),
    ("tools.bench.*",),
    ("tools.measurement.*",),
    ("tools.commands.*",),
)
"""A module imports only from rows above its own; `package.*` is a package, free inside itself."""

OWNERS: Final = {
    "onnxruntime": ("app.engine",),
    "onnx": ("tools.graph",),
    "onnx_ir": ("tools.graph",),
    "subprocess": ("tools.image",),
    "flask": ("app.server",),
    "werkzeug": ("app.server",),
    "prometheus_client": ("app.server.metrics", "app.server.routes.metadata"),
    "mbedtls": ("app.aes", "app.server", "tools.bench.naive"),
    "PIL": ("app.pictures", "tools.bench.pictures", "tools.training"),
    "torch": ("tools.training",),
    "sklearn": ("tools.training",),
    "elftools": ("tools.image",),
    "pyseccomp": ("tools.image",),
    "yaml": ("tools.image",),
    "rich": ("tools",),
    "matplotlib": ("tools.figures",),
    "jinja2": ("tools.report",),
    "tract": ("tools.bench.peers",),
}
"""Third-party packages and who alone may import them."""

NOT_IN_OCCLUM: Final = {"multiprocessing", "subprocess", "concurrent", "pty", "fcntl", "mmap"}
"""Standard modules that need fork or what Occlum answers otherwise."""

THREADS_ONLY: Final = {
    f"concurrent.futures.{name}" for name in ("Future", "ThreadPoolExecutor", "wait")
}
"""What of them needs no more than a thread."""

MODULES: Final = {**modules("app"), **modules("tools")}
GRAPH: Final = inner_imports(MODULES)


def scripts() -> list[str]:
    """Files directly in tools/ that are one call of the launcher."""
    return [name for name, path in MODULES.items() if "launcher" in outer_imports(path)]


def row(name: str) -> int:
    """Gives a module's row."""
    for index, members in enumerate(ROWS):
        for member in members:
            package = member.removesuffix(".*")
            if name == member or (member.endswith(".*") and f"{name}.".startswith(f"{package}.")):
                return index
    raise LookupError(f"{name} is in no row of the table")


def package(name: str) -> str:
    """Gives the member of the table that a module belongs to."""
    for member in ROWS[row(name)]:
        if member.endswith(".*") and f"{name}.".startswith(member.removesuffix("*")):
            return member
    return name


@pytest.mark.parametrize("name", sorted(set(MODULES) - set(scripts())))
def test_modules_import_only_from_rows_above(name: str) -> None:
    wrong = {
        target
        for target in GRAPH[name]
        if row(target) >= row(name) and package(target) != package(name)
    }
    assert not wrong


def test_table_names_no_module_that_is_gone() -> None:
    for member in (member for members in ROWS for member in members):
        assert member.removesuffix(".*") in MODULES


def test_no_cycles() -> None:
    try:
        TopologicalSorter(GRAPH).prepare()
    except CycleError as error:
        pytest.fail(" → ".join(error.args[1]))


def test_app_never_imports_tools() -> None:
    for name, path in modules("app").items():
        assert not outer_imports(path) & {"tools", "tests", "launcher"}, name


def test_runner_imports_neither_bundle_nor_engine() -> None:
    """It says as protocols what it needs; the composition root supplies it."""
    known = {
        "app.batch",
        "app.errors",
        "app.ledger",
        "app.loading",
        "app.manifest",
        "app.schedule",
        "app.stream",
        "app.tensors",
        "app.wiring",
    }
    assert GRAPH["app.runner"] <= known
    assert GRAPH["app.stream"] <= {"app.loading", "app.schedule", "app.tensors"}


def test_schedule_is_pure() -> None:
    """The planner predicts with what the runner follows; neither may bring in more."""
    assert GRAPH["app.schedule"] == set()
    assert outer_imports(MODULES["app.schedule"]) <= sys.stdlib_module_names


@pytest.mark.parametrize("library", OWNERS)
def test_libraries_have_one_place(library: str) -> None:
    users = {name for name, path in MODULES.items() if library in outer_imports(path)}
    assert users, "an owner without a use"
    strangers = {
        name
        for name in users
        if not any(name == owner or name.startswith(f"{owner}.") for owner in OWNERS[library])
    }
    assert not strangers


@pytest.mark.parametrize("name", sorted(modules("app")))
def test_app_needs_nothing_that_occlum_lacks(name: str) -> None:
    used = set(imports(MODULES[name])) - THREADS_ONLY
    assert not {each.split(".")[0] for each in used} & NOT_IN_OCCLUM


def test_files_that_others_fill_are_read_in_one_place() -> None:
    """It waits for no pipe and follows no link; whoever opens by himself may do both."""
    assert {name for name, path in modules("app").items() if reads_files(path)} == {
        "app.files",
        "app.config",  # measured, and read once at start, as the policy and what follows
        "app.access.policy",
        "app.cpu",
        "app.outlets",
        "app.server.routes.page",
    }


@pytest.mark.parametrize("name", scripts())
def test_scripts_only_launch(name: str) -> None:
    assert outer_imports(MODULES[name]) == {"launcher"}
    assert len(MODULES[name].read_text(encoding="utf-8").splitlines()) < 12


def test_launcher_runs_before_anything_is_installed() -> None:
    assert outer_imports(ROOT / "tools" / "launcher.py") <= sys.stdlib_module_names
