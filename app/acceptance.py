"""Whether a bundle that a model's owner signed is served; the image's build asks it as well."""

from __future__ import annotations

from datetime import datetime

from app.config import ModelConfig
from app.errors import BundleIntegrityError, BundleRefusedError
from app.manifest import Manifest


def check_acceptance(manifest: Manifest, wanted: ModelConfig, now: datetime) -> None:
    """Decides whether a bundle that a model's owner signed is served as this model.

    Args:
        manifest: the signature holds.
        wanted: what the configuration says of the model.
        now: the time, with its time zone.

    Raises:
        BundleIntegrityError: it is another model's, or an older version.
        BundleRefusedError: it is denied, has expired, or doesn't commit to its key.
    """
    identity = manifest.identity
    if identity.model_id != wanted.model_id or identity.model_version < wanted.minimum_version:
        raise BundleIntegrityError
    if identity.bundle_id in wanted.denied_bundles:
        raise BundleRefusedError(f"the configuration denies the bundle {identity.bundle_id.hex()}")
    if manifest.release is None and not wanted.insecure_bundle_format_1:
        raise BundleRefusedError(
            f"bundle format {identity.format_version} doesn't say for which key a bundle is, so "
            "another key would bring another model; write the bundle again"
        )
    manifest.check_expiry(now)
