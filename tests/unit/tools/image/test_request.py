"""What a build is asked for becomes the app's measured configuration."""

from __future__ import annotations

import base64
import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from app.config import (
    DEFAULT_MAX_BATCH,
    DEFAULT_MAX_DELAY_US,
    TLS_LIBRARIES,
    read_config,
)
from tests import folders
from tests.folders import KEYS
from tests.policies import POLICY
from tests.vectors.generate import VECTORS
from tools.bundling.keys import encode_public_key
from tools.bundling.writer import Period
from tools.errors import ImageBuildError
from tools.image.building import where_bundles_lie
from tools.image.bundle_facts import read_bundle_facts
from tools.image.command import main, parser, request_of
from tools.image.host_mounts import host_mount_problems, hostfs_targets
from tools.image.identity import Identity
from tools.image.instance import Instance
from tools.image.policy import internal_configuration, read_configuration
from tools.image.request import CONFIGURATION, TEMPLATE, BuildRequest
from tools.image.staging import (
    host_folders_in_place,
    sizes_for,
    stage_rootfs,
    write_instance_files,
)
from tools.model_folder import ModelFolder


def make_bundle(path: Path, **changes: object) -> Path:
    path.mkdir(parents=True)
    manifest = {
        "model": {"id": "digits", "version": 7},
        "bundle_id": "0a" * 32,
        "budget_bytes": 1 << 20,
        **changes,
    }
    (path / "manifest.json").write_text(json.dumps(manifest))
    return path


@pytest.fixture
def request_(tmp_path: Path) -> BuildRequest:
    owner = tmp_path / "owner.pub"
    owner.write_text(base64.b64encode(bytes(32)).decode() + "\n")
    return BuildRequest(
        bundle=make_bundle(tmp_path / "digits.bundle"),
        bundle_folder=None,
        insecure_key_folder=None,
        owner_public_key=owner,
        mode="SIM",
        production=False,
        port=8443,
        names=("localhost",),
        workers=4,
        inference_threads=1,
        budget_bytes=0,
        output=tmp_path / "out",
        sign_key=tmp_path / "enclave.pem",
    )


def test_the_app_reads_what_is_staged(request_: BuildRequest, tmp_path: Path) -> None:
    stage_rootfs(request_, request_.served(), tmp_path / "stage")
    config = read_config(tmp_path / "stage" / "rootfs" / CONFIGURATION.lstrip("/"))
    assert config.budget_bytes == 1 << 20
    assert config.bundle_folder == Path("/host/bundles")
    assert list((tmp_path / "stage/rootfs/host/bundles").iterdir()) == []


def test_a_bundle_becomes_part_of_the_image_where_that_is_asked_for(
    request_: BuildRequest, tmp_path: Path
) -> None:
    asked = replace(request_, bundle_in_image=True)
    assert asked.problems() == []
    stage_rootfs(asked, asked.served(), tmp_path / "stage")
    assert (tmp_path / "stage/rootfs/opt/cloister/bundles/digits.bundle/manifest.json").is_file()
    config = read_config(tmp_path / "stage" / "rootfs" / CONFIGURATION.lstrip("/"))
    assert config.models[0].bundle == Path("/opt/cloister/bundles/digits.bundle")
    assert config.bundle_folder is None
    assert asked.host_folders() == {}


def test_a_bundle_in_the_image_has_a_place_and_a_minimum(request_: BuildRequest) -> None:
    model = request_.configuration(request_.served())["models"][0]
    assert model["minimum_version"] == 7


@pytest.fixture
def folder(request_: BuildRequest, tmp_path: Path) -> BuildRequest:
    """Versions 1, 2 and 3 of "digits", and version 5 of "words"."""
    for version in (1, 2, 3):
        make_bundle(
            tmp_path / "bundles" / f"{version}.bundle",
            model={"id": "digits", "version": version},
            bundle_id=f"{version:064x}",
        )
    make_bundle(
        tmp_path / "bundles" / "words.bundle",
        model={"id": "words", "version": 5},
        bundle_id=f"{5:064x}",
    )
    return replace(request_, bundle=None, bundle_folder=tmp_path / "bundles")


def versions(asked: BuildRequest) -> tuple[dict[str, int], list[int]]:
    """The oldest version of each model, and those of "digits" that are served."""
    served = asked.served()
    models = asked.configuration(served)["models"]
    digits = [each.facts.version for each in served if each.facts.model_id == "digits"]
    return {model["id"]: model["minimum_version"] for model in models}, digits


@pytest.mark.parametrize(
    ("named", "minimums", "digits"),
    [
        ({}, {"digits": 3, "words": 5}, [3]),
        ({"digits": 2}, {"digits": 2, "words": 5}, [2, 3]),
        ({"": 1}, {"digits": 1, "words": 1}, [1, 2, 3]),
        ({"": 1, "digits": 3}, {"digits": 3, "words": 1}, [3]),
    ],
)
def test_the_newest_version_at_build_time_is_the_oldest_served_unless_one_is_named(
    folder: BuildRequest, named: dict[str, int], minimums: dict[str, int], digits: list[int]
) -> None:
    asked = replace(folder, minimum_versions=named)
    assert versions(asked) == (minimums, digits)
    assert len(asked.left_out()) == 3 - len(digits)


def test_a_minimum_that_nothing_reaches_is_refused(folder: BuildRequest) -> None:
    asked = replace(folder, minimum_versions={"digits": 4})
    with pytest.raises(ImageBuildError, match="version 3 of digits won't be served, 4 is"):
        asked.served()


def test_a_denied_bundle_is_neither_served_nor_the_newest(
    folder: BuildRequest, tmp_path: Path
) -> None:
    denied = f"{3:064x}"
    asked = replace(folder, denied_bundles=(denied, "ff" * 32))
    assert versions(asked) == ({"digits": 2, "words": 5}, [2])
    assert any(f"--deny-bundle {denied}" in reason for reason in asked.left_out())
    stage_rootfs(asked, asked.served(), tmp_path / "stage")
    root = tmp_path / "stage" / "rootfs"
    config = read_config(root / CONFIGURATION.lstrip("/"))
    for model in config.models:
        assert model.denied_bundles == {bytes.fromhex(denied), b"\xff" * 32}


def test_a_model_of_denied_bundles_alone_is_no_image(request_: BuildRequest) -> None:
    with pytest.raises(ImageBuildError, match="won't be served: --deny-bundle"):
        replace(request_, denied_bundles=("0a" * 32,)).served()


@pytest.mark.parametrize(
    "words",
    [
        ["--minimum-version", "0"],
        ["--minimum-version", "digits"],
        ["--minimum-version", "digits="],
        ["--minimum-version", "digits=2147483648"],
        ["--deny-bundle", "0a"],
        ["--deny-bundle", "0A" * 32],
    ],
)
def test_options_of_another_form_are_wrong_usage(words: list[str]) -> None:
    with pytest.raises(SystemExit) as error:
        parser().parse_args(words)
    assert error.value.code == 2


def test_options_reach_the_request(request_: BuildRequest) -> None:
    words = ["--bundle", str(request_.bundle), "--owner-public-key"]
    words += [str(request_.owner_public_key), "--mode", "SIM", "--minimum-version", "2"]
    words += ["--minimum-version", "digits=7", "--deny-bundle", "ff" * 32]
    found = request_of(parser().parse_args([*words, "--insecure-bundle-format-1", "digits"]))
    assert found.minimum_versions == {"": 2, "digits": 7}
    assert found.denied_bundles == ("ff" * 32,)
    (model,) = found.configuration(found.served())["models"]
    assert model["insecure_bundle_format_1"] is True


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"minimum_versions": {"nobody": 1}}, "--minimum-version nobody: no such model is served"),
        (
            {"insecure_bundle_format_1": ("nobody",)},
            "--insecure-bundle-format-1 nobody: no such model is served",
        ),
    ],
)
def test_options_for_models_that_are_not_served(
    request_: BuildRequest, change: dict[str, Any], said: str
) -> None:
    asked = replace(request_, **change)
    with pytest.raises(ImageBuildError, match=said):
        asked.check_served(asked.served())


def real(request_: BuildRequest, tmp_path: Path, bundle: Path, **change: Any) -> BuildRequest:
    owner = tmp_path / "real.pub"
    owner.write_bytes(encode_public_key(KEYS.owner.public_key()))
    return replace(request_, bundle=bundle, owner_public_key=owner, **change)


def test_a_bundle_of_format_1_has_to_be_asked_for(request_: BuildRequest, tmp_path: Path) -> None:
    bundle = VECTORS[1].bundle
    asked = real(request_, tmp_path, bundle)
    with pytest.raises(ImageBuildError, match="doesn't say for which key a bundle is"):
        asked.check_served(asked.served())
    asked = real(request_, tmp_path, bundle, insecure_bundle_format_1=("golden",))
    asked.check_served(asked.served())
    production = replace(asked, production=True, mode="HW", identity=Identity(product_id=7))
    assert production.problems() == [
        "--production and --insecure-bundle-format-1 exclude each other"
    ]


def test_an_expired_bundle_is_no_image(
    request_: BuildRequest, tmp_path: Path, chain_folder: ModelFolder
) -> None:
    past = datetime(2020, 1, 1, tzinfo=UTC)
    period = Period(past, past + timedelta(days=1))
    bundle = folders.make_bundle(chain_folder, tmp_path / "chain.bundle", period=period)
    asked = real(request_, tmp_path, bundle)
    with pytest.raises(ImageBuildError, match="expired at 2020-01-02T00:00:00Z"):
        asked.check_served(asked.served())


def test_requests_are_logged_only_where_that_is_asked_for(
    request_: BuildRequest, tmp_path: Path
) -> None:
    for asked in (False, True):
        stage = tmp_path / f"stage-{asked}"
        made = replace(request_, log_requests=asked)
        stage_rootfs(made, made.served(), stage)
        config = read_config(stage / "rootfs" / CONFIGURATION.lstrip("/"))
        assert config.log_requests is asked


def test_a_bundle_folder_stays_on_the_host(request_: BuildRequest, tmp_path: Path) -> None:
    folder = tmp_path / "bundles"
    make_bundle(folder / "a.bundle", budget_bytes=5 << 20)
    make_bundle(folder / "b.bundle")
    asked = replace(request_, bundle=None, bundle_folder=folder)
    configuration = asked.configuration(asked.served())
    assert configuration["bundle_folder"] == "/host/bundles"
    (model,) = configuration["models"]
    assert "bundle" not in model, "both are versions of it, and further ones may come"
    assert configuration["budget_bytes"] == 5 << 20
    stage_rootfs(asked, asked.served(), tmp_path / "stage")
    assert list((tmp_path / "stage/rootfs/host/bundles").iterdir()) == []
    assert asked.host_folders() == {"/host/bundles": folder}


def test_keys_come_from_no_host_folder_unless_one_is_named(request_: BuildRequest) -> None:
    assert list(request_.host_folders()) == ["/host/bundles"]
    assert "insecure_key_folder" not in request_.configuration(request_.served())


@pytest.fixture
def instance(request_: BuildRequest) -> Instance:
    request_.output.mkdir()
    return Instance(request_.output)


def test_the_instance_has_a_writable_copy_of_the_bundle(
    request_: BuildRequest, instance: Instance
) -> None:
    """Occlum opens what it reads from the host for writing."""
    assert request_.bundle is not None
    (request_.bundle / "manifest.json").chmod(0o444)
    with host_folders_in_place(request_, request_.served(), instance):
        pass
    copy = instance.folder / "host" / "bundles" / "digits.bundle" / "manifest.json"
    assert copy.stat().st_mode & 0o200
    shutil.rmtree(request_.bundle)
    assert json.loads(copy.read_text())["model"]["id"] == "digits"


def test_a_build_that_fails_leaves_the_hosts_folders_as_they_were(
    request_: BuildRequest, instance: Instance, tmp_path: Path
) -> None:
    with host_folders_in_place(request_, request_.served(), instance):
        pass
    before = folders.files(instance.folder)
    other = replace(request_, bundle=make_bundle(tmp_path / "other.bundle"))
    with (
        pytest.raises(ImageBuildError, match="no room"),
        host_folders_in_place(other, other.served(), instance),
    ):
        assert (instance.folder / "host" / "bundles" / "other.bundle").is_dir()
        raise ImageBuildError("occlum build", ["no room"])
    assert folders.files(instance.folder) == before
    with host_folders_in_place(other, other.served(), instance):
        pass
    assert [path.name for path in (instance.folder / "host/bundles").iterdir()] == ["other.bundle"]


def test_a_killed_build_leaves_nothing_to_the_next(
    request_: BuildRequest, instance: Instance
) -> None:
    for name in ("host.partial", "host.former"):
        (instance.folder / name / "bundles" / "half.bundle").mkdir(parents=True)
    with host_folders_in_place(request_, request_.served(), instance):
        pass
    assert [path.name for path in instance.folder.iterdir()] == ["host"]


def test_no_path_of_the_host_is_measured(
    request_: BuildRequest, instance: Instance, tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    keys.mkdir()
    asked = replace(request_, insecure_key_folder=keys)
    write_instance_files(asked, instance, sizes_for(asked, asked.served()))
    measured = internal_configuration(read_configuration(instance.configuration))
    assert str(tmp_path) not in json.dumps(measured)
    assert [m["source"] for m in measured["mount"] if m["type"] == "hostfs"] == [
        "./host/bundles",
        "./host/insecure-keys",
    ]
    stage_rootfs(asked, asked.served(), tmp_path / "stage")
    for path in (tmp_path / "stage" / "rootfs").rglob("*"):
        assert path.is_dir() or str(tmp_path) not in path.read_text()


@pytest.mark.parametrize("option", ["bundle_folder", "insecure_key_folder"])
def test_a_folder_that_the_build_replaces_is_not_taken(
    request_: BuildRequest, instance: Instance, option: str
) -> None:
    own = instance.folder / "host" / "bundles"
    own.mkdir(parents=True)
    changes: dict[str, object] = {option: own}
    if option == "bundle_folder":
        changes["bundle"] = None
    (problem,) = replace(request_, **changes).problems()  # type: ignore[arg-type]
    assert "which every build replaces" in problem


def test_where_a_bundle_goes_is_said_once(request_: BuildRequest, tmp_path: Path) -> None:
    (problem,) = replace(request_, bundle_folder=tmp_path).problems()
    assert "exclude each other without --bundle-in-image" in problem
    both = replace(request_, bundle_folder=tmp_path, bundle_in_image=True)
    assert both.problems() == []
    (problem,) = replace(
        request_, bundle=None, bundle_folder=tmp_path, bundle_in_image=True
    ).problems()
    assert "--bundle-in-image needs --bundle" in problem


def test_what_was_chosen_is_said_with_its_cost(request_: BuildRequest, instance: Instance) -> None:
    (line,) = where_bundles_lie(request_, request_.served(), instance)
    assert str(instance.folder / "host" / "bundles") in line
    assert "authenticates every object" in line
    packed = replace(request_, bundle_in_image=True)
    (line,) = where_bundles_lie(packed, packed.served(), instance)
    assert "40 ms a request instead of 6.4" in line


SOURCE_VERSION = read_configuration(TEMPLATE)["metadata"]["version_number"]


def test_the_identity_is_in_the_measured_configuration(
    request_: BuildRequest, instance: Instance
) -> None:
    named = Identity(product_id=7, security_version=SOURCE_VERSION + 2, family_id=(1 << 64) + 255)
    for identity, product, version, is_named in (
        (named, 7, SOURCE_VERSION + 2, True),
        (Identity(), 1, SOURCE_VERSION, False),
    ):
        asked = replace(request_, identity=identity)
        write_instance_files(asked, instance, sizes_for(asked, asked.served()))
        metadata = read_configuration(instance.configuration)["metadata"]
        assert (metadata["product_id"], metadata["version_number"]) == (product, version)
        assert metadata["enable_kss"] is is_named
        if is_named:
            assert metadata["family_id"] == {"high": "0x1", "low": "0xff"}


def test_no_image_says_an_older_security_version_than_its_source(request_: BuildRequest) -> None:
    asked = replace(request_, identity=Identity(security_version=SOURCE_VERSION - 1))
    (problem,) = asked.problems()
    assert f"this source is {SOURCE_VERSION}" in problem


def test_production_names_its_product(request_: BuildRequest) -> None:
    asked = replace(request_, production=True, mode="HW")
    (problem,) = asked.problems()
    assert "--production needs --product-id" in problem
    assert replace(asked, identity=Identity(product_id=1)).problems() == []


@pytest.mark.parametrize(
    "words",
    [
        ["--product-id", "0"],
        ["--product-id", "65536"],
        ["--security-version", "-1"],
        ["--security-version", "two"],
        ["--family-id", "0x"],
        ["--family-id", "g"],
        ["--family-id", "1" * 33],
    ],
)
def test_numbers_that_no_quote_can_hold(words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parser().parse_args(words)
    assert ended.value.code == 2


def test_development_keys_are_named_insecure(request_: BuildRequest, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.mkdir()
    (keys / "digits.key").write_bytes(bytes(32))
    asked = replace(request_, insecure_key_folder=keys)
    configuration = asked.configuration(asked.served())
    assert configuration["insecure_key_folder"] == "/host/insecure-keys"
    assert "key_folder" not in configuration
    assert asked.model_keys() == (bytes(32),)


def test_a_policy_becomes_part_of_the_image(request_: BuildRequest, tmp_path: Path) -> None:
    policy = tmp_path / "mine.json"
    policy.write_text(json.dumps(POLICY))
    asked = replace(request_, access_policy=policy)
    stage_rootfs(asked, asked.served(), tmp_path / "stage")
    root = tmp_path / "stage" / "rootfs"
    config = read_config(root / CONFIGURATION.lstrip("/"), root)
    assert config.access_policy is not None
    assert config.access_policy.read_text() == policy.read_text()
    assert not config.insecure_open_access


def test_the_tls_library_is_configured(request_: BuildRequest, tmp_path: Path) -> None:
    for name in TLS_LIBRARIES:
        stage_rootfs(replace(request_, tls_library=name), request_.served(), tmp_path / "stage")
        config = read_config(tmp_path / "stage" / "rootfs" / CONFIGURATION.lstrip("/"))
        assert config.tls_library == name


def test_batches_are_configured(request_: BuildRequest, tmp_path: Path) -> None:
    asked = replace(request_, workers=9, max_batch=8, max_delay_us=500, tensor_batch=("digits",))
    assert asked.problems() == []
    stage_rootfs(asked, asked.served(), tmp_path / "stage")
    config = read_config(tmp_path / "stage" / "rootfs" / CONFIGURATION.lstrip("/"))
    assert (config.workers, config.max_batch, config.max_delay_us) == (9, 8, 500)
    assert [model.tensor_batch for model in config.models] == [True]


def test_without_options_no_more_run_together_than_workers_wait(
    request_: BuildRequest, tmp_path: Path
) -> None:
    for workers, together in ((4, 4), (16, DEFAULT_MAX_BATCH)):
        asked = replace(request_, workers=workers)
        stage_rootfs(asked, asked.served(), tmp_path / "stage")
        config = read_config(tmp_path / "stage" / "rootfs" / CONFIGURATION.lstrip("/"))
        assert config.max_batch == together
        assert config.max_delay_us == DEFAULT_MAX_DELAY_US
        assert [model.tensor_batch for model in config.models] == [False]


def test_a_batch_that_workers_are_too_few_for_is_refused(request_: BuildRequest) -> None:
    (problem,) = replace(request_, max_batch=8).problems()
    assert "--max-batch 8 needs at least 8 --workers, not 4" in problem


def test_rows_of_a_model_that_is_not_served_are_refused(request_: BuildRequest) -> None:
    asked = replace(request_, tensor_batch=("nobody",))
    with pytest.raises(ImageBuildError, match="nobody: no such model is served; there are digits"):
        asked.check_served(asked.served())


@pytest.mark.parametrize(
    ("options", "workers"),
    [([], 4), (["--max-batch", "2"], 4), (["--max-batch", "8"], 9), (["--max-batch", "64"], 64)],
)
def test_workers_are_enough_for_a_batch_of_one_tenant(
    request_: BuildRequest, options: list[str], workers: int
) -> None:
    words = ["--bundle", str(request_.bundle), "--owner-public-key"]
    words += [str(request_.owner_public_key), "--mode", "SIM", *options]
    found = request_of(parser().parse_args(words))
    assert found.workers == workers


def test_open_access_has_to_be_asked_for(request_: BuildRequest, tmp_path: Path) -> None:
    for is_open in (False, True):
        asked = replace(request_, insecure_open_access=is_open)
        stage_rootfs(asked, asked.served(), tmp_path / "stage")
        config = read_config(tmp_path / "stage" / "rootfs" / CONFIGURATION.lstrip("/"))
        assert config.insecure_open_access is is_open
        assert config.access_policy is None


def test_open_access_excludes_a_policy_and_production(
    request_: BuildRequest, tmp_path: Path
) -> None:
    asked = replace(
        request_,
        insecure_open_access=True,
        access_policy=tmp_path / "a.json",
        production=True,
        mode="HW",
        identity=Identity(product_id=1),
    )
    assert asked.problems() == [
        "--access-policy and --insecure-open-access exclude each other",
        "--production and --insecure-open-access exclude each other",
    ]


def test_what_does_not_fit_together_is_all_listed(request_: BuildRequest, tmp_path: Path) -> None:
    asked = replace(
        request_,
        bundle=tmp_path / "absent",
        owner_public_key=None,
        insecure_key_folder=tmp_path,
        production=True,
    )
    assert len(asked.problems()) == 5
    assert replace(request_, bundle=None).problems() == [
        "name a bundle with --bundle or a folder of them with --bundle-folder"
    ]


@pytest.mark.parametrize("text", ["", "not base64!", base64.b64encode(bytes(31)).decode()])
def test_a_bad_owner_key(request_: BuildRequest, text: str) -> None:
    assert request_.owner_public_key is not None
    request_.owner_public_key.write_text(text)
    with pytest.raises(ImageBuildError, match=r"owner\.pub"):
        request_.configuration(request_.served())


@pytest.mark.parametrize(
    "changes",
    [
        {"model": None},
        {"model": {"id": "x"}},
        {"budget_bytes": "1"},
        {"budget_bytes": True},
        {"bundle_id": None},
    ],
)
def test_a_manifest_without_its_facts(tmp_path: Path, changes: dict[str, object]) -> None:
    with pytest.raises(ImageBuildError, match=r"manifest\.json"):
        read_bundle_facts(make_bundle(tmp_path / "x.bundle", **changes))


def test_an_empty_bundle_folder(request_: BuildRequest, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImageBuildError, match=r"holds no \*\.bundle"):
        replace(request_, bundle=None, bundle_folder=tmp_path / "empty").served()


def test_the_mounts_that_are_measured_are_those_of_occlum_json(
    request_: BuildRequest, tmp_path: Path
) -> None:
    folders = {"--bundle-folder": tmp_path / "bundles", "--insecure-key-folder": tmp_path / "keys"}
    for folder in folders.values():
        folder.mkdir()
    inside = replace(request_, bundle_in_image=True)
    make_bundle(tmp_path / "bundles" / "a.bundle")
    asked = replace(
        request_,
        bundle=None,
        bundle_folder=folders["--bundle-folder"],
        insecure_key_folder=folders["--insecure-key-folder"],
    )
    places_of: tuple[tuple[BuildRequest, list[str]], ...] = (
        (inside, []),
        (asked, ["/host/bundles", "/host/insecure-keys"]),
    )
    for made, places in places_of:
        instance = Instance(tmp_path / f"instance-{len(places)}")
        instance.folder.mkdir()
        write_instance_files(made, instance, sizes_for(made, made.served()))
        stage_rootfs(made, made.served(), instance.folder / "stage")
        rootfs = instance.folder / "stage" / "rootfs"
        measured = json.loads((rootfs / CONFIGURATION.lstrip("/")).read_text())["host_mounts"]
        configuration = read_configuration(instance.configuration)
        assert measured == hostfs_targets(configuration) == places
        assert host_mount_problems(configuration, rootfs) == []


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"host_mounts": []}, "'host_mounts' is [], but Occlum.json mounts ['/host', '/mnt/x']"),
        ({"host_mounts": ["/host"]}, "'host_mounts' is ['/host'], but"),
        ({"host_mounts": ["/host", "/mnt/x", "/mnt/y"]}, "but Occlum.json mounts"),
        ({}, "must name the host folders"),
        ([], "must name the host folders"),
        (None, "must name the host folders"),
    ],
)
def test_mounts_that_the_app_isnt_told_of_stop_the_build(
    tmp_path: Path, told: object, said: str
) -> None:
    """Somebody edits Occlum.json by hand: the app would take the host's file for the image's."""
    path = tmp_path / CONFIGURATION.lstrip("/")
    path.parent.mkdir(parents=True)
    path.write_text("" if told is None else json.dumps(told))
    mounts = [
        {"target": "/", "type": "unionfs"},
        {"target": "/mnt/x", "type": "hostfs"},
        {"target": "/host", "type": "hostfs"},
    ]
    (problem,) = host_mount_problems({"mount": mounts}, tmp_path)
    assert said in problem
    path.unlink()
    assert host_mount_problems({"mount": mounts}, tmp_path) == [], "no app, nothing to tell"


def test_production_has_to_choose_its_tls_library(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    asked = ["--production", "--mode", "HW", "-o", str(tmp_path / "image")]
    with pytest.raises(SystemExit) as refused:
        main(asked)
    assert refused.value.code == 2
    said = capsys.readouterr().err
    assert "--production needs --tls-library" in said
    assert "'openssl' is in support" in said
    assert not (tmp_path / "image").exists()
    for library in TLS_LIBRARIES:  # these get further, to what else is missing
        assert main([*asked, "--tls-library", library]) == 1
        assert "name a bundle" in capsys.readouterr().err
