"""Who may call a route: what admission found out before the request's body was read."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from flask import request

from app.access.admission import Admission, lacks_right
from app.errors import AuthenticationError, ForbiddenError, NotFoundError
from app.server.wsgi import ADMISSION, CLIENT

P = ParamSpec("P")
T = TypeVar("T")


def admission() -> Admission:
    """Gives the present request's admission.

    Raises:
        AuthenticationError: it has none.
    """
    found: Admission | None = request.environ.get(ADMISSION)
    if found is None:
        raise AuthenticationError("this needs credentials; send an API token or a certificate")
    return found


def client() -> str:
    """Gives whose the present request is where clients share something.

    Raises:
        AuthenticationError: it has no admission.
    """
    whose: str = request.environ.get(CLIENT, admission().tenant)
    return whose


def needs(right: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Makes a route one that needs a right.

    A route's argument `name` is a model; one that the tenant may not use isn't there for it.

    Raises:
        AuthenticationError: on a request without admission.
        ForbiddenError: the tenant lacks the right.
        NotFoundError: the model isn't the tenant's; the message is that of an unknown model.
    """

    def decorate(route: Callable[P, T]) -> Callable[P, T]:
        @wraps(route)
        def checked(*arguments: P.args, **named: P.kwargs) -> T:
            found = admission()
            if right not in found.rights:
                raise ForbiddenError(lacks_right(found, right))
            name = named.get("name")
            if name is not None and not may_use(found, str(name)):
                raise NotFoundError(f"there is no model {str(name)[:80]!r}")
            return route(*arguments, **named)

        return checked

    return decorate


def may_use(found: Admission, name: str) -> bool:
    """Says whether a tenant may know of a model."""
    return found.models is None or name in found.models
