"""Says what to install when a library that only training needs is missing."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Final

from app.errors import ApplianceError

INSTALL_COMMAND: Final = ".venv/bin/pip install torch==2.13.0 scikit-learn"
REQUIRED_MODULES: Final = ("torch", "sklearn")


class MissingLibraryError(ApplianceError):
    """Training can't start: a library isn't installed; the message has the command for it."""


def require_libraries(modules: tuple[str, ...] = REQUIRED_MODULES) -> None:
    """Checks that training can import what it needs, without importing it.

    Args:
        modules: import names of the libraries.

    Raises:
        MissingLibraryError: at least one isn't installed.
    """
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        raise MissingLibraryError(
            f"training needs {', '.join(modules)}; missing here: {', '.join(missing)}. "
            f"Install with: {INSTALL_COMMAND}"
        )
