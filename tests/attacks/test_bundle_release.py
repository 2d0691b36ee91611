"""The host brings its own key, an expired or withdrawn bundle, or one of the older format."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import app.bundle
from app.bundle import objects_of, read_manifest
from app.errors import BundleIntegrityError
from app.manifest import Manifest
from app.objects import Kind, associated_data, chunk_nonce, ciphertext_bytes, object_key
from app.release import write_time
from tests import folders
from tests.folders import KEYS, OTHER_KEYS
from tests.host import Host, Start
from tests.vectors.generate import VECTORS
from tools.bundling.writer import Period
from tools.model_folder import ModelFolder

TAMPERED = f"error: {BundleIntegrityError()}\n"
HOSTS_KEY = OTHER_KEYS.model_key
ALLOWED: dict[str, Any] = {"insecure_bundle_format_1": True}


@pytest.fixture
def bundle(chain_bundle: Path, tmp_path: Path) -> Path:
    """A copy of the chain's bundle, version 3, that a test may change."""
    return folders.copy(chain_bundle, tmp_path / "chain.bundle")


@pytest.fixture
def decrypted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The objects for which a key was derived: nothing is decrypted without one."""
    names: list[str] = []

    def record(model_key: bytes, identity: Any, name: Any) -> Any:
        names.append(name.file)
        return object_key(model_key, identity, name)

    monkeypatch.setattr(app.bundle, "object_key", record)
    return names


def signed(bundle: Path) -> Manifest:
    return read_manifest(bundle, KEYS.owner.public_key(), minimum_version=1)


def encrypt_again(bundle: Path, model_key: bytes) -> None:
    """Replaces every object with one of the host's own, of the size that the manifest asks for.

    The host knows no plaintext; weights of its own choice are what it wants to have served.
    """
    manifest = signed(bundle)
    for name, size in objects_of(manifest):
        cipher = object_key(model_key, manifest.identity, name)
        bound = associated_data(manifest.identity, name, size)
        content = b"\x2a" * size
        chunks = range(0, max(size, 1), manifest.chunk_bytes)
        (bundle / name.file).write_bytes(
            b"".join(
                cipher.encrypt(
                    chunk_nonce(chunk), content[start : start + manifest.chunk_bytes], bound
                )
                for chunk, start in enumerate(chunks)
            )
        )
        file_bytes = ciphertext_bytes(size, manifest.chunk_bytes)
        assert (bundle / name.file).stat().st_size == file_bytes


def check_refused(start: Start, said: str) -> None:
    assert start.status == 1
    assert said in start.said
    assert start.loaded_nothing


# --- who brings the key doesn't bring the model -----------------------------------------------


def test_all_objects_under_the_hosts_key_with_the_owners_manifest(
    host: Host, bundle: Path, decrypted: list[str]
) -> None:
    encrypt_again(bundle, HOSTS_KEY)
    check_refused(host.start(bundle, model_key=HOSTS_KEY), TAMPERED)
    assert decrypted == [], "the owner signed for another key, so nothing was even tried"


def test_the_hosts_key_and_the_owners_objects(
    host: Host, bundle: Path, decrypted: list[str]
) -> None:
    check_refused(host.start(bundle, model_key=HOSTS_KEY), TAMPERED)
    assert decrypted == []


@pytest.mark.parametrize("kind", Kind)
def test_some_objects_under_the_hosts_key_with_the_owners_key(
    host: Host, bundle: Path, tmp_path: Path, kind: Kind
) -> None:
    """With the right key the commitment holds, and then the tags don't."""
    other = folders.copy(bundle, tmp_path / "other.bundle")
    encrypt_again(other, HOSTS_KEY)
    for name, _ in objects_of(signed(bundle)):
        if name.kind is kind:
            (bundle / name.file).write_bytes((other / name.file).read_bytes())
    check_refused(host.start(bundle), TAMPERED)


@pytest.mark.parametrize("bit", [0, 100, 255])
def test_a_key_that_differs_in_one_bit(
    host: Host, bundle: Path, decrypted: list[str], bit: int
) -> None:
    key = bytearray(KEYS.model_key)
    key[bit // 8] ^= 1 << bit % 8
    encrypt_again(bundle, bytes(key))
    check_refused(host.start(bundle, model_key=bytes(key)), TAMPERED)
    assert decrypted == []


def test_the_commitment_of_another_bundle_of_the_same_key(
    host: Host, bundle: Path, chain_folder: ModelFolder, tmp_path: Path, decrypted: list[str]
) -> None:
    """It is salted with the bundle's id, so one that was signed elsewhere proves nothing here."""
    other = folders.make_bundle(chain_folder, tmp_path / "other.bundle", version=3)
    check = folders.read_manifest_text(other)["key_check"]
    folders.edit_manifest(bundle, lambda manifest: manifest.update(key_check=check))
    check_refused(host.start(bundle), TAMPERED)
    assert decrypted == []


EDITS: dict[str, dict[str, Any]] = {
    "the host's commitment": {"key_check": "2a" * 32},
    "no commitment": {"key_check": None},
    "format 1": {
        "format_version": 1,
        **dict.fromkeys(("key_check", "key_id", "released_at"), None),
    },
    "format 1 with the fields of format 2": {"format_version": 1},
}


def edited(manifest: dict[str, Any], edit: dict[str, Any]) -> None:
    manifest.update(edit)
    for name in [name for name, value in manifest.items() if value is None]:
        del manifest[name]


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("allowed", [{}, ALLOWED])
def test_a_manifest_without_its_commitment(
    host: Host, bundle: Path, decrypted: list[str], edit: str, allowed: dict[str, Any]
) -> None:
    """Under the signature that the owner made before, and under one of the host's."""
    encrypt_again(bundle, HOSTS_KEY)
    signatures = [(bundle / "manifest.sig").read_bytes()]
    folders.edit_manifest(bundle, lambda m: edited(m, EDITS[edit]), OTHER_KEYS.owner)
    signatures.append((bundle / "manifest.sig").read_bytes())
    for signature in signatures:
        (bundle / "manifest.sig").write_bytes(signature)
        check_refused(host.start(bundle, model_key=HOSTS_KEY, **allowed), TAMPERED)
    assert decrypted == []


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        ("no commitment", "the field 'key_check' is missing"),
        ("format 1 with the fields of format 2", "unknown field(s) 'key_check'"),
        ("format 1", "bundle format 1 doesn't say for which key"),
    ],
)
def test_a_manifest_whose_owner_himself_left_the_commitment_out(
    host: Host, bundle: Path, decrypted: list[str], edit: str, said: str
) -> None:
    folders.edit_manifest(bundle, lambda m: edited(m, EDITS[edit]))
    check_refused(host.start(bundle), said)
    assert decrypted == []


# --- the older format --------------------------------------------------------------------------


def old_format(host: Host, bundle: Path = VECTORS[1].bundle, **more: Any) -> Start:
    return host.start(bundle, model_id="golden", minimum_version=7, **more)


def test_a_bundle_of_the_older_format_that_the_owner_once_signed(
    host: Host, decrypted: list[str]
) -> None:
    check_refused(old_format(host), "bundle format 1 doesn't say for which key")
    assert decrypted == []


def test_the_older_format_where_the_configuration_names_it(host: Host) -> None:
    start = old_format(host, **ALLOWED)
    assert (start.status, start.listening) == (0, True)
    assert "INSECURE: insecure_bundle_format_1 is set" in start.announced


def test_what_the_older_format_gives_up(host: Host, tmp_path: Path, decrypted: list[str]) -> None:
    """Under a name that says so: with it, whoever brings the key is asked for nothing else."""
    bundle = folders.copy(VECTORS[1].bundle, tmp_path / "golden.bundle")
    encrypt_again(bundle, HOSTS_KEY)
    start = old_format(host, bundle, model_key=HOSTS_KEY, **ALLOWED)
    assert decrypted, "the host's objects authenticated"
    assert start.said != TAMPERED
    assert start.loaded_nothing, "they are no card and no graph; better ones would be served"


def test_production_refuses_the_older_format(host: Host) -> None:
    change = {"production": True, "sgx_mode": "HW"}
    start = old_format(host, change=change, **ALLOWED)
    assert start.status == 2
    assert "insecure_bundle_format_1: refused in production" in start.said


def test_objects_of_one_format_under_a_manifest_of_the_other(host: Host, tmp_path: Path) -> None:
    """Same keys, bundle id and sizes: what is bound to every object tells the formats apart."""
    bundle = folders.copy(VECTORS[2].bundle, tmp_path / "golden.bundle")
    dropped = {"key_check": None, "key_id": None, "released_at": None, "expires_at": None}
    folders.edit_manifest(bundle, lambda m: edited(m, {"format_version": 1, **dropped}))
    check_refused(old_format(host, bundle, **ALLOWED), TAMPERED)


# --- time and withdrawal -----------------------------------------------------------------------


def now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


@pytest.fixture
def expired(chain_folder: ModelFolder, tmp_path: Path) -> Path:
    period = Period(now() - timedelta(days=2), now() - timedelta(days=1))
    return folders.make_bundle(chain_folder, tmp_path / "expired.bundle", version=3, period=period)


def test_an_expired_bundle(host: Host, expired: Path, decrypted: list[str]) -> None:
    check_refused(host.start(expired), "the bundle expired at")
    assert decrypted == []


@pytest.mark.parametrize("edit", [{"expires_at": None}, {"expires_at": "2999-01-01T00:00:00Z"}])
def test_an_expired_bundle_whose_manifest_the_host_edits(
    host: Host, expired: Path, edit: dict[str, Any]
) -> None:
    raw = (expired / "manifest.sig").read_bytes()
    folders.edit_manifest(expired, lambda m: edited(m, edit), OTHER_KEYS.owner)
    check_refused(host.start(expired), TAMPERED)
    (expired / "manifest.sig").write_bytes(raw)
    check_refused(host.start(expired), TAMPERED)


def test_expiry_of_another_bundle_around_the_same_objects(
    host: Host, expired: Path, chain_folder: ModelFolder, tmp_path: Path
) -> None:
    fresh = folders.make_bundle(chain_folder, tmp_path / "fresh.bundle", version=3)
    for name in ("manifest.json", "manifest.sig"):
        (expired / name).write_bytes((fresh / name).read_bytes())
    check_refused(host.start(expired), TAMPERED)


def test_a_bundle_that_expires_later_is_served(
    host: Host, chain_folder: ModelFolder, tmp_path: Path
) -> None:
    period = Period(now(), now() + timedelta(days=1))
    bundle = folders.make_bundle(chain_folder, tmp_path / "b.bundle", period=period)
    assert write_time(now() + timedelta(days=1))[:10] in (bundle / "manifest.json").read_text()
    assert host.start(bundle).status == 0


def test_a_denied_bundle_of_a_version_that_is_new_enough(
    host: Host, bundle: Path, decrypted: list[str]
) -> None:
    bundle_id = signed(bundle).identity.bundle_id.hex()
    start = host.start(bundle, denied_bundles=["00" * 32, bundle_id])
    check_refused(start, f"the configuration denies the bundle {bundle_id}")
    assert decrypted == []
    assert host.start(bundle, denied_bundles=["00" * 32]).status == 0


def test_a_denied_bundle_by_another_name_or_in_another_place(
    host: Host, bundle: Path, tmp_path: Path
) -> None:
    bundle_id = signed(bundle).identity.bundle_id.hex()
    arrivals = tmp_path / "arrivals"
    arrivals.mkdir()
    folders.copy(bundle, arrivals / "new.bundle")
    (arrivals / "link.bundle").symlink_to(bundle)
    change = {"bundle_folder": str(arrivals)}
    check_refused(host.start(bundle, change=change, denied_bundles=[bundle_id]), "denies")


def test_a_denied_bundle_with_an_id_of_the_hosts_choice(host: Host, bundle: Path) -> None:
    bundle_id = signed(bundle).identity.bundle_id.hex()
    folders.edit_manifest(bundle, lambda m: m.update(bundle_id="11" * 32), OTHER_KEYS.owner)
    check_refused(host.start(bundle, denied_bundles=[bundle_id]), TAMPERED)


@pytest.mark.parametrize("denied", [["00"], ["GG" * 32], ["AA" * 32], [7], "00" * 32, None])
def test_a_deny_list_that_could_not_mean_anything_is_no_configuration(
    host: Host, bundle: Path, denied: object
) -> None:
    start = host.start(bundle, denied_bundles=denied)
    assert start.status == 2
    assert "denied_bundles" in start.said
    assert start.loaded_nothing


# --- what an owner writes ----------------------------------------------------------------------


@pytest.fixture
def manifests(chain_folder: ModelFolder, tmp_path: Path) -> Iterator[list[dict[str, Any]]]:
    keys = [KEYS, KEYS, replace(KEYS, model_key=HOSTS_KEY), replace(KEYS, key_id="mine")]
    yield [
        json.loads(
            (
                folders.make_bundle(chain_folder, tmp_path / f"{number}.bundle", keys=each)
                / "manifest.json"
            ).read_bytes()
        )
        for number, each in enumerate(keys)
    ]


def test_the_manifest_names_the_key_and_tells_nothing_of_it(
    manifests: list[dict[str, Any]],
) -> None:
    one, again, other, named = manifests
    assert one["key_id"] == again["key_id"] != other["key_id"]
    assert named["key_id"] == "mine"
    assert len({each["key_check"] for each in manifests}) == 4, "even of one key"
    for each in manifests:
        for key in (KEYS.model_key, HOSTS_KEY):
            assert key.hex()[:12] not in json.dumps(each)
