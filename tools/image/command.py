"""The command behind occlum_image/build.sh: stages everything and calls `occlum`."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from app.access.policy import read_policy
from app.config import DEFAULT_MAX_BATCH, DEFAULT_MAX_DELAY_US, MAX_THREADS, TLS_LIBRARIES
from app.limits import MAX_BATCH, MAX_DELAY_US
from app.manifest import MAX_VERSION
from app.release import read_bundle_id
from tools.command_line import DONE, run
from tools.errors import ImageBuildError
from tools.image.instance import STATUS_FILE, Instance
from tools.image.packing import build_instance, checked_configuration
from tools.image.processes import output_of
from tools.image.python_prefix import stage_python
from tools.image.request import BuildRequest
from tools.image.rootfs_checks import glibc_problems
from tools.image.signing import ensure_signing_key
from tools.image.staging import sizes_for, stage_rootfs, write_instance_files
from tools.launcher import ROOT
from tools.sizes import parse_size

STAND_IN = ROOT / "tools" / "occlum"
BUILD = ROOT / "build"
PYTHON_VARIABLE = "CLOISTER_PYTHON"
"""Names, for bom.yaml, the folder that holds python-occlum."""

DEFAULT_WORKERS = 4

TEMPLATES = "/opt/occlum/etc/template"
"""Where Occlum keeps the bom files that others include."""


def main(argv: Sequence[str] | None = None) -> int:
    """Builds an image.

    Returns:
        0, or 1 when the build is refused; argparse exits with 2 for wrong usage.
    """
    arguments = parser().parse_args(argv)

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
    add("--bundle", type=Path, action=_Once, metavar="BUNDLE", help="bundle to put into the image")
    add("--bundle-folder", type=Path, metavar="DIR", help="host folder of bundles, seen at /host")
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
        default=TLS_LIBRARIES[0],
        help="TLS 1.2 on Mbed TLS, or 1.2 and 1.3 on the Python interpreter's OpenSSL; default: "
        f"{TLS_LIBRARIES[0]}",
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
        tls_library=arguments.tls_library,
        max_batch=arguments.max_batch,
        max_delay_us=arguments.max_delay_us,
        tensor_batch=tuple(arguments.tensor_batch or ()),
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


def real_occlum() -> Path | None:
    """Occlum's own command if it is on PATH, not this project's stand-in."""
    found = shutil.which("occlum")
    if found is None or Path(found).resolve() == STAND_IN.resolve():
        return None
    return Path(found)


def build(request: BuildRequest) -> None:
    """Builds the image.

    Raises:
        ImageBuildError: lists every problem of the step that failed.
    """
    served = request.served()
    request.check_served(served)
    for reason in request.left_out():
        _say(f"note: {reason}")
    _check_access(request)
    stage = BUILD / "python"
    stage_python(stage / "python-occlum", BUILD / "wheels", _say)
    os.environ[PYTHON_VARIABLE] = str(stage)
    if ensure_signing_key(request.sign_key):
        _say(f"made a new signing key: {request.sign_key}")
    occlum = real_occlum()
    instance = _instance(request.output, occlum)
    _say("staging configuration and bundles")
    stage_rootfs(request, served, instance.folder / "stage")
    write_instance_files(request, instance, sizes_for(request, served))
    if occlum is None:
        _build_with_stand_in(request, instance)
    else:
        _build_with_occlum(request, instance, occlum)
    _say(f"built {instance.folder}; run it there with: occlum run /bin/app")


def _say(line: str) -> None:
    print(f"build.sh: {line}", flush=True)


def _check_access(request: BuildRequest) -> None:
    """Finds out now what would keep the app from starting, or from serving anything."""
    if request.access_policy is not None:
        read_policy(request.access_policy)
    elif not request.insecure_open_access:
        _say("note: no --access-policy, so only health will be served")


def _instance(folder: Path, occlum: Path | None) -> Instance:
    if not (folder / STATUS_FILE).is_file():
        output_of([occlum or STAND_IN, "new", folder], "occlum new")
    return Instance.at(folder)


def _build_with_stand_in(request: BuildRequest, instance: Instance) -> None:
    _say(f"occlum build (stand-in, {request.mode}): root file system, checks, packing")
    mounts = frozenset(request.host_folders())
    with instance.claimed():
        notes = build_instance(
            instance, request.sign_key, request.mode, mounts, request.model_keys()
        )
    for note in [*notes, *glibc_problems(instance.image)]:
        _say(f"note: {note}")


def _build_with_occlum(request: BuildRequest, instance: Instance, occlum: Path) -> None:
    _say("copy_bom")
    shutil.rmtree(instance.image, ignore_errors=True)
    bom = instance.folder / "bom.yaml"
    copy: list[str | Path] = ["copy_bom", "-f", bom, "--root", instance.image]
    output_of([*copy, "--include-dir", TEMPLATES], "copy_bom", cwd=instance.folder)
    _say("checking the root file system")
    mounts = frozenset(request.host_folders())
    checked_configuration(instance, host_mounts=mounts, known_keys=request.model_keys())
    if problems := glibc_problems(instance.image):
        raise ImageBuildError(str(instance.image), problems)
    _say(f"occlum build ({occlum}, {request.mode})")
    key: list[str | Path] = ["--sign-key", request.sign_key.resolve()]
    argv = [occlum, "build", *key, "--sgx-mode", request.mode]
    output_of(argv, "occlum build", cwd=instance.folder)
    # Occlum reports some wrong configurations with status 0 and an empty file.
    enclave = instance.build / "Enclave.xml"
    if not enclave.is_file() or enclave.stat().st_size == 0:
        raise ImageBuildError("occlum build", [f"{enclave} is missing or empty; see its output"])


if __name__ == "__main__":
    sys.exit(main())
