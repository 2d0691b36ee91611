"""Occlum.json: what Occlum would drop silently or fail on later is refused with its place."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from tools.errors import ImageBuildError
from tools.image.policy import (
    SIZING_KEY,
    configuration_problems,
    internal_configuration,
    kernel_heap_bytes,
    read_configuration,
    user_space_bytes,
)
from tools.launcher import ROOT

TEMPLATE = ROOT / "occlum_image" / "Occlum.json"
MIB = 1 << 20


@pytest.fixture
def configuration() -> dict[str, Any]:
    return read_configuration(TEMPLATE)


@pytest.fixture
def instance(tmp_path: Path) -> Path:
    for name in ("image/host", "image/tmp", "image/run", "image/etc", "bundles"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "image/etc/hosts").touch()
    (tmp_path / "image/link").symlink_to("run")
    return tmp_path


def problems(
    configuration: dict[str, Any], instance: Path, mounts: frozenset[str] | None = None
) -> list[str]:
    return configuration_problems(configuration, instance / "image", instance, mounts)


def changed(configuration: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy with one value replaced, or removed when it is None."""
    result = copy.deepcopy(configuration)
    *sections, key = path.split(".")
    place = result
    for section in sections:
        place = place[section]
    if value is None:
        del place[key]
    else:
        place[key] = value
    return result


def test_the_template_is_good(configuration: dict[str, Any], instance: Path) -> None:
    assert problems(configuration, instance) == []


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        ("extra", 1, "unknown key extra"),
        ("resource_limits.user_space", "1MB", "unknown key resource_limits.user_space"),
        ("metadata.pkru", 0, "unknown key metadata.pkru"),
        ("feature.autokey", True, "unknown key feature.autokey"),
        ("env.extra", [], "unknown key env.extra"),
        ("feature", None, "feature is missing"),
        ("env.untrusted", None, "env.untrusted is missing"),
        ("resource_limits.user_space_size", "640M", "isn't a size"),
        ("resource_limits.user_space_size", "1.5GB", "isn't a size"),
        ("resource_limits.kernel_space_heap_size", 1024, "isn't a size"),
        ("process.default_heap_size", "64", "isn't a size"),
        ("process.default_heap_size", "1000B", "whole pages"),
        ("process.default_heap_size", "0MB", "must not be 0"),
        ("process.default_stack_size", "2GB", "default_stack_size is larger than user_space_size"),
        ("resource_limits.user_space_max_size", "1MB", "larger than user_space_max_size"),
        ("resource_limits.kernel_space_heap_max_size", "1MB", "kernel_space_heap_max_size"),
        ("resource_limits.max_num_of_threads", 0, "must be 1 to 4096"),
        ("resource_limits.max_num_of_threads", "32", "must be 1 to 4096"),
        ("metadata.debuggable", True, "metadata.debuggable must be false"),
        ("metadata.debuggable", 0, "metadata.debuggable must be false"),
        ("metadata.product_id", 65536, "metadata.product_id must be 0 to 65535"),
        ("metadata.family_id", "0x0", "exactly 'high' and 'low'"),
        ("env.untrusted", ["LD_PRELOAD"], "env.untrusted must be empty"),
        ("env.default", ["NOVALUE"], "NAME=value"),
        ("env.default", ["A=1", "A=2"], "each name once"),
        ("env.default", ["A=" + "x" * 40000], "the stack has room for"),
        ("entry_points", [], "at least one path"),
        ("entry_points", ["/"], "other than '/'"),
        ("entry_points", ["bin"], "must be an absolute path"),
        ("entry_points", ["/bin/../opt"], "without '..'"),
        ("mount", [], "there is no mount of '/'"),
        ("process", "big", "process must be an object"),
    ],
)
def test_one_problem(
    configuration: dict[str, Any], instance: Path, path: str, value: Any, reason: str
) -> None:
    found = problems(changed(configuration, path, value), instance)
    assert any(reason in problem for problem in found), found


@pytest.mark.parametrize(
    ("mount", "reason"),
    [
        ({"target": "/host", "type": "hostfs"}, "needs a source folder"),
        ({"target": "/host", "type": "hostfs", "source": "absent"}, "doesn't exist"),
        ({"target": "/host", "type": "hostfs", "source": "."}, "holds the instance itself"),
        ({"target": "/host", "type": "hostfs", "source": ".."}, "holds the instance itself"),
        ({"target": "/absent", "type": "ramfs"}, "isn't a folder of the image"),
        ({"target": "tmp", "type": "ramfs"}, "must be an absolute path"),
        ({"target": "/tmp", "type": "tmpfs"}, "unknown type 'tmpfs'"),
        ({"target": "/tmp", "type": "ramfs", "size": "1MB"}, "unknown key size"),
        ({"target": "/tmp", "type": "sefs", "options": {"x": 1}}, "unknown key x"),
        ({"target": "/tmp", "type": "sefs", "options": {"cache_size": "4KB"}}, "at least 192KB"),
        ({"target": "/", "type": "ramfs"}, "occurs twice"),
        ({"target": "//", "type": "ramfs"}, "measured files would be hidden"),
        ({"target": "/tmp/", "type": "ramfs"}, "lies in the mount of /tmp"),
        ({"target": "/run/keys", "type": "hostfs", "source": "bundles"}, "mount of /run"),
        ({"target": "/link", "type": "hostfs", "source": "bundles"}, "mount of /run"),
        ({"target": "/etc", "type": "hostfs", "source": "bundles"}, "would be hidden"),
        ({"target": "/host", "type": "sefs", "source": "./x"}, "nothing written may stay"),
        ({"target": "/host", "type": "unionfs"}, "keeps what is written"),
        ({"target": "/host", "type": "ext2"}, "keeps what is written"),
        ("/tmp", "must be an object"),
    ],
)
def test_mounts(configuration: dict[str, Any], instance: Path, mount: Any, reason: str) -> None:
    if isinstance(mount, dict) and mount["target"] == "/run/keys":
        (instance / "image" / "run" / "keys").mkdir()
    configuration["mount"].append(mount)
    found = problems(configuration, instance)
    assert any(reason in problem for problem in found), found


def test_a_host_folder_must_have_been_asked_for(
    configuration: dict[str, Any], instance: Path
) -> None:
    configuration["mount"].append({"target": "/host", "type": "hostfs", "source": "bundles"})
    assert problems(configuration, instance) == []
    assert problems(configuration, instance, frozenset({"/host"})) == []
    assert any("wasn't asked for" in p for p in problems(configuration, instance, frozenset()))


def test_the_root_must_be_the_image_under_a_layer(
    configuration: dict[str, Any], instance: Path
) -> None:
    layers = configuration["mount"][0]["options"]["layers"]
    layers[0]["source"] = "./image"
    layers[1]["typo"] = 1
    found = problems(configuration, instance)
    assert any("must be a unionfs of" in problem for problem in found)
    assert any("layers[1]: unknown key typo" in problem for problem in found)


@pytest.mark.parametrize(
    "options",
    [None, {}, {"temporary": False}, {"temporary": 1}, {"temporary": "true"}, ["temporary"]],
)
def test_a_layer_that_stays_is_refused(
    configuration: dict[str, Any], instance: Path, options: Any
) -> None:
    layer = configuration["mount"][0]["options"]["layers"][1]
    del layer["options"]
    if options is not None:
        layer["options"] = options
    found = problems(configuration, instance)
    assert any(
        "layers[1] must be a sefs whose options.temporary is true" in problem for problem in found
    ), found


def test_all_problems_are_listed_at_once(configuration: dict[str, Any], instance: Path) -> None:
    configuration["extra"] = 1
    configuration["metadata"]["debuggable"] = True
    configuration["env"]["untrusted"] = ["HOME"]
    configuration["process"]["default_heap_size"] = "64M"
    assert len(problems(configuration, instance)) == 4


def test_the_largest_size_counts(configuration: dict[str, Any]) -> None:
    configuration["resource_limits"]["user_space_max_size"] = "2GB"
    assert user_space_bytes(configuration) == 2048 * MIB
    assert kernel_heap_bytes(configuration) == 300 * MIB


def test_the_derivation_is_allowed_and_not_built_in(
    configuration: dict[str, Any], instance: Path
) -> None:
    configuration[SIZING_KEY] = {"any": "thing"}
    assert problems(configuration, instance) == []
    assert SIZING_KEY not in internal_configuration(configuration)


@pytest.mark.parametrize("text", ["{", "[]", '{"a": 1} // comment'])
def test_not_a_json_object(tmp_path: Path, text: str) -> None:
    path = tmp_path / "Occlum.json"
    path.write_text(text)
    with pytest.raises(ImageBuildError, match=r"Occlum\.json"):
        read_configuration(path)


def test_the_template_has_nothing_of_the_host(configuration: dict[str, Any]) -> None:
    assert "hostfs" not in json.dumps(configuration)
    assert "ORT_DISABLE_TELEMETRY=1" in configuration["env"]["default"]
