"""What a quote says of an enclave beside its measurement: product, security version, family.

SGX takes the product id and the security version number (ISVPRODID, ISVSVN) from the signature
over the enclave, and derives sealing keys of a signer from them. The family id is in a quote only
with key separation and sharing (KSS), so that naming one turns KSS on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MAX_NUMBER = 2**16 - 1
FAMILY_BITS = 128
DEFAULT_PRODUCT_ID = 1


@dataclass(frozen=True, slots=True)
class Identity:
    """What the owner of an image says that it is.

    Attributes:
        product_id: ISVPRODID; None when the owner named none.
        security_version: ISVSVN; None for the number of this source.
        family_id: 128 bits, or None.
    """

    product_id: int | None = None
    security_version: int | None = None
    family_id: int | None = None

    def problems(self, metadata: Mapping[str, Any], *, production: bool) -> list[str]:
        """Every reason not to sign an image so.

        Args:
            metadata: of the template, whose `version_number` is this source's.
            production: whether a product has to be named.
        """
        problems = []
        least: int = metadata["version_number"]
        if self.security_version is not None and self.security_version < least:
            problems.append(
                f"--security-version {self.security_version}: this source is {least}; a smaller "
                "number would let verifiers take it for one with faults that are known"
            )
        if production and self.product_id is None:
            problems.append(
                "--production needs --product-id: enclaves of one signer with one product id "
                "share sealing keys, and no verifier can tell them apart by it"
            )
        return problems

    def metadata(self, metadata: Mapping[str, Any]) -> dict[str, Any]:
        """Occlum.json's `metadata`: the template's with what the owner named."""
        named = dict(metadata)
        named["product_id"] = self.product_id or DEFAULT_PRODUCT_ID
        if self.security_version is not None:
            named["version_number"] = self.security_version
        if self.family_id is not None:
            high, low = divmod(self.family_id, 2**64)
            named |= {"enable_kss": True, "family_id": {"high": hex(high), "low": hex(low)}}
        return named
