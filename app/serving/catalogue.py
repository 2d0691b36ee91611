"""The models that are served: which there are, and which version answers.

A new version of a model is verified and loaded beside the old one. Only then
requests that name no version go to the new one, all at once; the old one ends
its running requests and is unloaded. Whatever fails before leaves the old one
serving. Where both don't fit into the budget, the old one is drained first, and
comes back when the new one fails.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence

from app.errors import ApplianceError, BusyError, NotFoundError, client_text
from app.serving.models import Bundle, Scan, ServedModel
from app.serving.residence import Residence
from app.serving.statistics import Statistics

Key = tuple[str, int]
"""Model id and version."""


class Catalogue:
    """All models of the appliance. Callable from any thread.

    Args:
        scan: looks for bundles; their manifests are verified, nothing else.
        residence: where they are loaded.
        report: takes lines for people.
        clock_ns: monotonic.
    """

    def __init__(
        self,
        scan: Callable[[], Scan],
        residence: Residence,
        *,
        report: Callable[[str], None] = lambda _: None,
        clock_ns: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        self.residence = residence
        self._scan = scan
        self._report = report
        self._clock_ns = clock_ns
        # Guarded by the residence's `changed`.
        self._models: dict[Key, ServedModel] = {}
        self._current: dict[str, ServedModel] = {}
        self._offered: dict[Key, Bundle] = {}
        self._refused: Sequence[tuple[str, ApplianceError]] = ()

    def start(self, required: Collection[str] = ()) -> None:
        """Verifies the newest version of every model and loads those for which there is room.

        A version that can't be used gives way to the one before it.

        Args:
            required: models without which the appliance doesn't start.

        Raises:
            ApplianceError: why one of them can't be served, or none at all.
        """
        with self.residence.loading:
            self._look()
            for name, error in self._refused:
                if name in required:
                    raise error
                self._report(f"bundle {name}: {error}")
            for name in sorted({name for name, _ in self._offered}):
                self._start(name, is_required=name in required)
            failures = [model.life.failure for model in self._models.values()]
            for failure in [*failures, *(error for _, error in self._refused)]:
                if failure is not None and not self._current:
                    raise failure

    def _start(self, name: str, *, is_required: bool) -> None:
        versions = sorted(
            (version for each, version in self._offered if each == name), reverse=True
        )
        for version in versions:
            model = self._models[name, version]
            try:
                self.residence.verify(model)
                self.residence.open(model, may_unload=False)
            except BusyError:
                self._report(f"model {name} version {version}: loads when it is asked")
            except ApplianceError as error:
                self._report(f"model {name} version {version}: {error}")
                if is_required and version == versions[-1]:
                    raise
                continue
            self._current[name] = model
            return

    def find(self, model_id: str, version: str | None = None) -> ServedModel:
        """Finds a model, and verifies its bundle if that wasn't done yet.

        Args:
            model_id: as in the URL.
            version: as in the URL; None for the one that is served without asking.

        Raises:
            NotFoundError: there is none, or it was unloaded on request.
            BundleError, KeyUnavailableError: it can't be used.
            BusyError: it makes room for its new version.
        """
        with self.residence.changed:
            model = self._lookup(model_id, version)
            model.life.check(model_id)
            is_known = model.life.verified is not None
        if not is_known:
            with self.residence.loading:
                self.residence.verify(model)
        return model

    def index(self) -> list[tuple[str, int, str, str]]:
        """Looks for bundles and gives name, version, state and its reason for every version.

        States are the protocol's: "READY" means that the next request is served, from memory or
        after loading. A bundle whose manifest doesn't hold goes by its folder and version 0.
        """
        with self.residence.loading:
            self._look()
        with self.residence.changed:
            found = [(*key, *model.life.describe()) for key, model in self._models.items()]
            found += [(name, 0, "UNAVAILABLE", client_text(error)) for name, error in self._refused]
        return sorted(found)

    def load(self, name: str) -> None:
        """Looks for bundles and switches to the newest version once it is loaded.

        Raises:
            NotFoundError: there is no such model.
            BusyError: others use the memory for it.
            ApplianceError: it can't be loaded; the version before serves on.
        """
        with self.residence.loading:
            self._look()
            model = self._newest(name)
            old = self._current.get(name)
            with self.residence.changed:
                model.life.forgive()
            self.residence.verify(model)
            self._load_beside(model, old)
            with self.residence.changed:
                self._current[name] = model
            if old is not None and old is not model:
                self.residence.drain(old)
        self._report(f"model {name} version {model.version}: serving")

    def unload(self, name: str) -> None:
        """Refuses new requests to all versions of a model, and unloads them after the running ones.

        Raises:
            NotFoundError: there is no such model.
        """
        with self.residence.changed:
            found = [model for (each, _), model in self._models.items() if each == name]
            if not found:
                raise _nothing(name)
            for model in found:
                model.life.is_wanted = False
                self.residence.drain(model)

    def statistics(self, name: str | None, version: str | None = None) -> list[Statistics]:
        """Gives the counters of versions; None stands for all.

        Raises:
            NotFoundError: there is no such model or version.
        """
        with self.residence.changed:
            if name is not None:
                self._lookup(name, version)
        return [
            model.statistics()
            for model in self.models()
            if name in (None, model.model_id) and version in (None, str(model.version))
        ]

    @property
    def budget_bytes(self) -> int:
        """Bound on the memory of all models together."""
        return self.residence.budget_bytes

    @property
    def used_bytes(self) -> int:
        """What of it loaded models have."""
        return self.residence.used_bytes

    def models(self) -> list[ServedModel]:
        """Gives every version that is known."""
        with self.residence.changed:
            return [self._models[key] for key in sorted(self._models)]

    def close(self) -> None:
        """Unloads what isn't in use; at the end of the process."""
        for model in self.models():
            self.residence.drain(model)

    def _look(self) -> None:
        """Takes notice of bundles that came or went; which version answers stays as it is."""
        found = self._scan()
        with self.residence.changed:
            self._refused = found.refused
            self._offered = {_key(bundle): bundle for bundle in found.bundles}
            for key, bundle in self._offered.items():
                known = self._models.get(key)
                if known is None or (known.bundle.identity != bundle.identity and _is_idle(known)):
                    self._models[key] = ServedModel(bundle, self.residence.lease, self._clock_ns)
                    if known is not None and self._current.get(key[0]) is known:
                        self._current[key[0]] = self._models[key]
            for key in [each for each in self._models if each not in self._offered]:
                if _is_idle(self._models[key]):
                    gone = self._models.pop(key)
                    if self._current.get(key[0]) is gone:
                        del self._current[key[0]]
            self.residence.sharers = max(1, len({name for name, _ in self._models}))

    def _newest(self, name: str) -> ServedModel:
        """Gives the newest version that there is a bundle of."""
        versions = [version for each, version in self._offered if each == name]
        if not versions:
            raise _nothing(name)
        return self._models[name, max(versions)]

    def _lookup(self, model_id: str, version: str | None) -> ServedModel:
        current = self._current.get(model_id)
        if version is None and current is not None and current.life.failure is None:
            return current
        found = {str(number): (name, number) for name, number in self._models if name == model_id}
        if not found:
            raise _nothing(model_id)
        if version is None:
            self._current[model_id] = max(
                (self._models[key] for key in found.values()),
                key=lambda each: (each.life.failure is None, each.version),
            )
            return self._current[model_id]
        if version not in found:
            raise NotFoundError(f"model {model_id!r} has no version {version[:20]!r}")
        return self._models[found[version]]

    def _load_beside(self, model: ServedModel, old: ServedModel | None) -> None:
        """Loads a version while the old one serves; instead of it where both don't fit."""
        try:
            self.residence.open(model, keep=old, is_ordered=True)
        except BusyError:
            if old is None or old is model or not old.is_loaded:
                raise
            self.residence.replace(old, model)


def _key(bundle: Bundle) -> Key:
    return bundle.identity.model_id, bundle.identity.model_version


def _is_idle(model: ServedModel) -> bool:
    return not model.is_loaded and not model.life.users


def _nothing(name: str) -> NotFoundError:
    return NotFoundError(f"there is no model {name[:80]!r}")
