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

RECORDED = Path(__file__).with_name("recorded")
PLACES: list[tuple[list[str | int], list[Any], list[Any]]] = json.loads(
    (RECORDED / "occlum_json.json").read_text(encoding="utf-8")
)
"""Places of whole_occlum.json, and values that the real tool takes and refuses there; recorded with
the types of gen_internal_conf and its JSON library (serde_json 1.0)."""

REMOVED = "<removed>"
STRICTER = {
    "entry_points": "absolute paths",
    "env": "nothing from the host; the tool itself doesn't look at it",
    "mount": "the root and types and targets of mounts, which only the LibOS looks at",
    "process": "sizes that only the LibOS looks at",
    "resource_limits": "no zero threads, no null",
    "metadata": "not debuggable, identities that are numbers without enable_kss as well, no null",
    "feature": "unknown keys, and a list in the place of an object",
}
"""Sections in which values are refused that the real tool takes, and which."""

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
        (
            "process.default_stack_size",
            "2GB",
            "default_stack_size is larger than user_space_size and",
        ),
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


@pytest.mark.parametrize(
    ("place", "taken", "refused"), PLACES, ids=[".".join(map(str, place)) for place, *_ in PLACES]
)
def test_nothing_passes_that_the_real_tool_refuses(
    tmp_path: Path, place: list[str | int], taken: list[Any], refused: list[Any]
) -> None:
    for name in ("image/tmp", "image/run"):
        (tmp_path / name).mkdir(parents=True)
    for value in refused:
        assert problems(mutant(place, value), tmp_path), value
    for value in taken:
        found = problems(mutant(place, value), tmp_path)
        assert found == [] or place[0] in STRICTER, (value, found)


def mutant(place: list[str | int], value: Any) -> dict[str, Any]:
    """The whole example with one value replaced or removed."""
    content: dict[str, Any] = read_configuration(RECORDED / "whole_occlum.json")
    *sections, last = place
    container: Any = content
    for section in sections:
        container = container[section]
    if value == REMOVED:
        del container[last]
    else:
        container[last] = value
    return content


def test_the_whole_example_is_good(tmp_path: Path) -> None:
    for name in ("image/tmp", "image/run"):
        (tmp_path / name).mkdir(parents=True)
    assert problems(mutant(["feature", "amx"], 0), tmp_path) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"pkru": 0', '"pkru": 0, "pkru": 1'),
        ('"feature": {', '"mount": [], "feature": {'),
        ('"target": "/tmp"', '"target": "/tmp", "target": "/run"'),
        ('"high": "0x0"', '"high": "0x1", "high": "0x0"'),
        ('"product_id": 1', '"product_id": NaN'),
        ('"product_id": 1', '"product_id": -Infinity'),
        ('"OCCLUM=yes"', '"OCCLUM=\\ud800"'),
        ('"OCCLUM=yes"', "[" * 20000 + "]" * 20000),
    ],
)
def test_text_that_isnt_what_it_seems_is_refused(tmp_path: Path, old: str, new: str) -> None:
    text = (RECORDED / "whole_occlum.json").read_text()
    assert old in text
    path = tmp_path / "Occlum.json"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(ImageBuildError, match="can't be read as JSON"):
        read_configuration(path)


@pytest.mark.parametrize(
    ("size", "maximum", "fits"),
    [("1MB", "1200MB", True), ("1200MB", None, True), ("1MB", "4MB", False), ("4MB", None, False)],
)
def test_a_stack_fits_into_the_larger_user_space(
    configuration: dict[str, Any], instance: Path, size: str, maximum: str | None, fits: bool
) -> None:
    configuration["resource_limits"]["user_space_size"] = size
    if maximum is not None:
        configuration["resource_limits"]["user_space_max_size"] = maximum
    found = problems(configuration, instance)
    assert any("default_stack_size is larger" in problem for problem in found) != fits


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        ("options.cache_size", "128KB", "at least 192KB"),
        ("options.cache_size", "193KB", "whole pages"),
        ("options.cache_size", "1GB", "larger than the kernel heap"),
        ("options.cache_size", None, "isn't a size"),
        ("options.disk_size", "5GB", "unknown key disk_size"),
        ("options.layers", {"0": {}}, "must be a unionfs of"),
        ("options.layers", 5, "must be a unionfs of"),
        ("options.layers", [[], 5], "layers[0] must be an object"),
    ],
)
def test_the_root_mounts_options(
    configuration: dict[str, Any], instance: Path, path: str, value: Any, reason: str
) -> None:
    section, key = path.split(".")
    configuration["mount"][0][section][key] = value
    found = problems(configuration, instance)
    assert any(reason in problem for problem in found), found


def test_a_third_layer_is_refused(configuration: dict[str, Any], instance: Path) -> None:
    layers = configuration["mount"][0]["options"]["layers"]
    layers.append(layers[1])
    assert any("must be a unionfs of" in problem for problem in problems(configuration, instance))
