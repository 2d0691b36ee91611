"""The command behind occlum_image/build.sh: stages everything and calls `occlum`."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from app.config import DEFAULT_MAX_BATCH, DEFAULT_MAX_DELAY_US, MAX_THREADS, TLS_LIBRARIES
from app.limits import MAX_BATCH, MAX_DELAY_US
from app.manifest import MAX_VERSION
from app.release import read_bundle_id
from tools.command_line import DONE, run
from tools.errors import ImageBuildError
from tools.image.building import BUILD, build, real_occlum
from tools.image.identity import DEFAULT_PRODUCT_ID, FAMILY_BITS, MAX_NUMBER, Identity
from tools.image.request import BuildRequest
from tools.sizes import parse_size

DEFAULT_WORKERS = 4


def main(argv: Sequence[str] | None = None) -> int:
    """Builds an image.

    Returns:
        0, or 1 when the build is refused; argparse exits with 2 for wrong usage.
    """
    commands = parser()
    arguments = commands.parse_args(argv)
    if arguments.production and arguments.tls_library is None:
        commands.error(
            "--production needs --tls-library: 'openssl' is in support; 'mbedtls' is less code, "
            "but Mbed TLS 2.28 gets no more fixes (SECURITY.md says what that means here)"
        )

    def command() -> int:
        build(request_of(arguments))
        return DONE

    return run(command)


def parser() -> argparse.ArgumentParser:
    """Makes the command's parser."""
    found = argparse.ArgumentParser(
        prog="occlum_image/build.sh",
        description="Builds the enclave image into an Occlum instance.",
    )
    add = found.add_argument
    _add_bundles(add)
    add(
        "--insecure-key-folder",
        type=Path,
        metavar="DIR",
        help="development: model keys as files that the host can read",
    )
    add("--owner-public-key", type=Path, metavar="FILE", help="who signs the bundles (owner.pub)")
    _add_acceptance(add)
    add(
        "--access-policy",
        type=Path,
        metavar="FILE",
        help="who may do what, made by tools/access.py; without it only health is served",
    )
    add(
        "--insecure-open-access",
        action="store_true",
        help="everybody who reaches the port may ask, instead of a policy",
    )
    add(
        "--tls-library",
        choices=TLS_LIBRARIES,
        help="TLS 1.2 on Mbed TLS 2.28, which gets no more fixes, or 1.2 and 1.3 on the Python "
        f"interpreter's OpenSSL; default: {TLS_LIBRARIES[0]}, but --production needs a choice",
    )
    add(
        "--log-requests",
        action="store_true",
        help="leave a line in the log, which the host reads, for every request",
    )
    add("--sign-key", type=Path, metavar="PEM", help="key that signs the enclave; made if missing")
    add(
        "--mode",
        choices=("HW", "SIM"),
        help="SGX hardware or simulation; default: HW where there is SGX, else SIM",
    )
    add("--production", action="store_true", help="refuse everything that weakens security")
    add("--port", type=_port, default=8443, metavar="N", help="TCP port (default 8443)")
    add(
        "--name",
        action="append",
        metavar="NAME",
        help="name or address that clients use; may be repeated (localhost, 127.0.0.1)",
    )
    _add_identity(add)
    _add_work(add)
    add("--budget", type=parse_size, default=0, metavar="SIZE", help="at least this much, as 85MiB")
    add(
        "-o",
        "--output",
        type=Path,
        default=BUILD / "image",
        metavar="DIR",
        help="instance (build/image)",
    )
    return found


def _add_bundles(add: Callable[..., object]) -> None:
    add(
        "--bundle",
        type=Path,
        action=_Once,
        metavar="BUNDLE",
        help="bundle to serve; it is copied to the instance's host/bundles and stays outside",
    )
    add(
        "--bundle-folder",
        type=Path,
        metavar="DIR",
        help="a folder of bundles on the host instead, seen where it is",
    )
    add(
        "--bundle-in-image",
        action="store_true",
        help="pack and measure --bundle with the image; Occlum then reads it at 10 to 20 MB/s, so "
        "only for models that stay in memory",
    )


def _add_identity(add: Callable[..., object]) -> None:
    add(
        "--product-id",
        type=_identity_number,
        metavar="N",
        help="the product that a quote names (ISVPRODID), one for each purpose of a signing key "
        f"(default {DEFAULT_PRODUCT_ID}; --production asks for it)",
    )
    add(
        "--security-version",
        type=_identity_number,
        metavar="N",
        help="the security version that a quote names (ISVSVN), at least this source's; raise it "
        "with every fix after which older images must not be trusted",
    )
    add(
        "--family-id",
        type=_family,
        metavar="HEX",
        help="the family that a quote names (ISVFAMILYID), 1 to 32 hexadecimal digits; turns KSS "
        "on",
    )


def _add_acceptance(add: Callable[..., object]) -> None:
    add(
        "--minimum-version",
        type=_minimum_version,
        action="append",
        metavar="[MODEL=]N",
        help="oldest version of this model, or of all, that is served; may be repeated (default: "
        "the newest that is there when the image is built)",
    )
    add(
        "--deny-bundle",
        type=_bundle_id,
        action="append",
        metavar="ID",
        help="never serve this bundle, whatever its version; may be repeated ('tools/bundle.py id "
        "BUNDLE --bundle' prints its id)",
    )
    add(
        "--insecure-bundle-format-1",
        action="append",
        metavar="MODEL",
        help="serve bundles of this model that don't say for which key they are; may be repeated",
    )


def _add_work(add: Callable[..., object]) -> None:
    add(
        "--workers",
        type=_count,
        metavar="N",
        help=f"request threads (default {DEFAULT_WORKERS}, or one more than --max-batch)",
    )
    add("--inference-threads", type=_count, default=1, metavar="N", help="per session (default 1)")
    add(
        "--max-batch",
        type=_together,
        metavar="N",
        help="requests of a model that may run together, where sharing the loading of weights is "
        f"predicted to pay (default {DEFAULT_MAX_BATCH}, at most --workers); partition the model "
        "with '--lock-step N'",
    )
    add(
        "--max-delay-us",
        type=_delay,
        default=DEFAULT_MAX_DELAY_US,
        metavar="N",
        help="how long a request may be kept waiting for others to run with (default "
        f"{DEFAULT_MAX_DELAY_US})",
    )
    add(
        "--tensor-batch",
        action="append",
        metavar="MODEL",
        help="run requests of this model as rows of one tensor, which may change last bits; may "
        "be repeated",
    )


class _Once(argparse.Action):
    """An option whose second mention would silently replace the first."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        if getattr(namespace, self.dest, None) is not None:
            parser.error(f"{option_string} is given twice; use --bundle-folder for several bundles")
        setattr(namespace, self.dest, values)


def _port(text: str) -> int:
    return _number(text, 1, 65535)


def _number(text: str, least: int, most: int) -> int:
    if not text.isdigit() or not least <= int(text) <= most:
        raise argparse.ArgumentTypeError(f"must be {least} to {most}, not {text!r}")
    return int(text)


def _identity_number(text: str) -> int:
    return _number(text, 1, MAX_NUMBER)


def _family(text: str) -> int:
    digits = text.removeprefix("0x")
    if not re.fullmatch(rf"[0-9a-fA-F]{{1,{FAMILY_BITS // 4}}}", digits):
        raise argparse.ArgumentTypeError(
            f"must be 1 to {FAMILY_BITS // 4} hexadecimal digits, not {text!r}"
        )
    return int(digits, 16)


def _minimum_version(text: str) -> tuple[str, int]:
    name, _, number = text.rpartition("=")
    return name, _number(number, 1, MAX_VERSION)


def _bundle_id(text: str) -> str:
    try:
        return read_bundle_id(text).hex()
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _count(text: str) -> int:
    return _number(text, 1, MAX_THREADS)


def _together(text: str) -> int:
    return _number(text, 1, MAX_BATCH)


def _delay(text: str) -> int:
    return _number(text, 0, MAX_DELAY_US)


def request_of(arguments: argparse.Namespace) -> BuildRequest:
    """Turns parsed arguments into a checked request.

    Raises:
        ImageBuildError: lists everything that doesn't fit together.
    """
    sgx = Path("/dev/sgx_enclave").exists() and real_occlum() is not None
    request = BuildRequest(
        bundle=arguments.bundle,
        bundle_folder=arguments.bundle_folder,
        insecure_key_folder=arguments.insecure_key_folder,
        owner_public_key=arguments.owner_public_key,
        mode=arguments.mode or ("HW" if sgx else "SIM"),
        production=arguments.production,
        port=arguments.port,
        names=tuple(arguments.name or ("localhost", "127.0.0.1")),
        workers=arguments.workers or enough_workers(arguments.max_batch),
        inference_threads=arguments.inference_threads,
        budget_bytes=arguments.budget,
        output=arguments.output,
        sign_key=arguments.sign_key or BUILD / "signing" / "enclave.pem",
        access_policy=arguments.access_policy,
        log_requests=arguments.log_requests,
        insecure_open_access=arguments.insecure_open_access,
        tls_library=arguments.tls_library or TLS_LIBRARIES[0],
        max_batch=arguments.max_batch,
        max_delay_us=arguments.max_delay_us,
        tensor_batch=tuple(arguments.tensor_batch or ()),
        bundle_in_image=arguments.bundle_in_image,
        identity=Identity(arguments.product_id, arguments.security_version, arguments.family_id),
        minimum_versions=dict(arguments.minimum_version or ()),
        denied_bundles=tuple(arguments.deny_bundle or ()),
        insecure_bundle_format_1=tuple(arguments.insecure_bundle_format_1 or ()),
    )
    if problems := request.problems():
        raise ImageBuildError("arguments", problems)
    return request


def enough_workers(max_batch: int | None) -> int:
    """Gives how many workers fill a batch: a tenant alone never has all of them."""
    return min(MAX_THREADS, max(DEFAULT_WORKERS, (max_batch or 0) + 1))


if __name__ == "__main__":
    sys.exit(main())
