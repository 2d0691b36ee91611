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

from app.errors import ApplianceError, BundleReadError, BusyError, NotFoundError
from app.limits import DRAIN_TIMEOUT_S
from app.serving.models import Bundle, IndexEntry, Scan, ServedModel
from app.serving.residence import Residence
from app.serving.scanner import Scanner
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
        rescan_s: how long `index` is content with the bundles that were seen last.
    """

    def __init__(
        self,
        scan: Callable[[], Scan],
        residence: Residence,
        *,
        report: Callable[[str], None] = lambda _: None,
        clock_ns: Callable[[], int] = time.perf_counter_ns,
        rescan_s: float = 0.0,
    ) -> None:
        self.residence = residence
        self._scanner = Scanner(scan, rescan_s=rescan_s)
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
        self._scanner.fresh()
        with self.residence.loading:
            self._take_notice()
            for name, error in self._refused:
                if name in required:
                    raise error
            failures: list[ApplianceError] = []
            for name in sorted({name for name, _ in self._offered}):
                failures += self._start(name, is_required=name in required)
            failures += [error for _, error in self._refused]
            if failures and not self._current:
                raise failures[0]

    def _start(self, name: str, *, is_required: bool) -> list[ApplianceError]:
        """Takes the newest version of a model that can be used; gives why newer ones can't."""
        failures: list[ApplianceError] = []
        for model in self._versions(name, self._offered):
            try:
                self.residence.open(model, lambda _: False)
            except BusyError:
                self._report(f"model {name} version {model.version}: loads when it is asked")
            except ApplianceError as error:
                self._report(f"model {name} version {model.version}: {error}")
                failures.append(error)
                continue
            self._current[name] = model
            return failures
        if is_required:
            raise failures[-1]
        return failures

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
            model.check()
        if model.verified is None:
            with self.residence.loading:
                self.residence.verify(model)
        return model

    def index(self) -> list[IndexEntry]:
        """Looks for bundles and gives what there is.

        It doesn't wait for a model that loads: bundles that came meanwhile are in the next answer.

        Raises:
            BusyError: the bundle folder never answered.
        """
        self._scanner.recent()
        if self.residence.loading.acquire(blocking=False):
            try:
                self._take_notice()
            finally:
                self.residence.loading.release()
        with self.residence.changed:
            versions = [
                IndexEntry(*key, *model.describe(), model.bundle_id)
                for key, model in self._models.items()
            ]
            refused = [
                IndexEntry(name, 0, "UNAVAILABLE", error.client_text)
                for name, error in self._refused
            ]
        return sorted([*versions, *refused], key=lambda entry: (entry.name, entry.version))

    def load(self, name: str) -> None:
        """Looks for bundles and switches to the newest version once it is loaded.

        Raises:
            NotFoundError: there is no such model.
            BusyError: others use the memory for it.
            ApplianceError: it can't be loaded; the version before serves on.
        """
        self._scanner.fresh(DRAIN_TIMEOUT_S)
        with self.residence.loading:
            self._take_notice()
            model = next(iter(self._versions(name, self._offered)), None)
            if model is None:
                raise _no_model(name)
            old = self._current.get(name)
            with self.residence.changed:
                model.is_wanted = True
                model.recover()
            self.residence.open_on_request(model, old)
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
            versions = self._versions(name, self._models)
            if not versions:
                raise _no_model(name)
            for model in versions:
                model.is_wanted = False
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

    def _take_notice(self) -> None:
        """Takes notice of bundles that came or went, with `loading` held.

        Which version answers stays as it is. What can't be read at the moment hasn't gone.
        """
        seen = self._scanner.latest  # of all looks so far, whichever the caller waited for
        self._report_refused(seen.refused)
        is_whole = not any(isinstance(error, BundleReadError) for _, error in seen.refused)
        with self.residence.changed:
            self._refused = seen.refused
            self._offered = {_key(bundle): bundle for bundle in seen.bundles}
            for key, bundle in self._offered.items():
                known = self._models.get(key)
                if known is None or (known.bundle.identity != bundle.identity and known.is_idle):
                    self._models[key] = ServedModel(bundle, self.residence.lease, self._clock_ns)
                    if known is not None and self._current.get(key[0]) is known:
                        self._current[key[0]] = self._models[key]
            for key in [key for key in self._models if key not in self._offered]:
                if is_whole and self._models[key].is_idle:
                    gone = self._models.pop(key)
                    if self._current.get(key[0]) is gone:
                        del self._current[key[0]]
            self.residence.sharers = max(1, len({name for name, _ in self._models}))

    def _report_refused(self, refused: Sequence[tuple[str, ApplianceError]]) -> None:
        """Tells people why bundles are refused, once for each reason."""
        known = {(name, str(error)) for name, error in self._refused}
        for name, error in refused:
            if (name, str(error)) not in known:
                self._report(f"bundle {name}: {error}")

    def _versions(self, name: str, among: Collection[Key]) -> list[ServedModel]:
        """Gives the versions of a model, the newest first."""
        keys = sorted((key for key in among if key[0] == name), reverse=True)
        return [self._models[key] for key in keys]

    def _lookup(self, model_id: str, version: str | None) -> ServedModel:
        current = self._current.get(model_id)
        if version is None and current is not None and current.holds_its_place:
            return current
        versions = self._versions(model_id, self._models)
        if not versions:
            raise _no_model(model_id)
        if version is None:
            self._current[model_id] = max(versions, key=lambda model: model.holds_its_place)
            return self._current[model_id]
        for model in versions:
            if version == str(model.version):
                return model
        raise NotFoundError(f"model {model_id!r} has no version {version[:20]!r}")


def _key(bundle: Bundle) -> Key:
    return bundle.identity.model_id, bundle.identity.model_version


def _no_model(name: str) -> NotFoundError:
    return NotFoundError(f"there is no model {name[:80]!r}")
