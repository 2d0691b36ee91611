"""tools/benchmark.py, in process, on the smallest of models."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import models
from tests.integration.appliance import prepare, running
from tools.bench import campaign, subjects
from tools.bench.results import read_result
from tools.commands.benchmark import main, standard


@pytest.fixture(autouse=True)
def own_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Puts three models where the project's own are, and the scratch folder out of the way."""
    own = tmp_path / "partitions"
    for name in ("wide", "digits"):
        models.save(models.wide_chain(3, 64), own / name / "model.onnx")
    (own / "broken").mkdir()
    (own / "broken" / "model.onnx").write_bytes(b"not a model")
    monkeypatch.setattr(subjects, "OWN", own)
    monkeypatch.setattr("tools.commands.benchmark.suites.SCRATCH", tmp_path / "scratch")
    return own


def results(folder: Path, subcommand: str) -> list[Path]:
    return sorted(folder.glob(f"*-{subcommand}.json"))


def test_one_failing_model_does_not_lose_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["operators", "--models", "broken", "wide", "--rounds", "1", "--quiet"]
    assert main([*words, "-o", str(tmp_path / "results")]) == 1
    assert "not measured: broken" in capsys.readouterr().err
    (path,) = results(tmp_path / "results", "operators")
    found = read_result(path)
    assert {row.labels["model"] for row in found.rows} == {"wide"}
    assert [failure.case for failure in found.failures] == ["broken, operators"]
    assert not found.partial
    isolated = json.loads(path.with_name(f"{path.stem}-wide.isolate").read_text())
    assert isolated["model"] == "wide"
    for end in (".csv", ".html", "-wide-operators.png", "-wide-operators.svg"):
        assert path.with_name(path.stem + end).stat().st_size


def test_sweep_compares_with_itself_and_is_drawn_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["partitions", "--models", "wide", "--counts", "2", "--budgets", "1KiB"]
    assert main([*words, "--rounds", "5", "-o", str(tmp_path)]) == 0
    (path,) = results(tmp_path, "partitions")
    found = read_result(path)
    infeasible = [row for row in found.rows if not row.samples]
    assert [row.labels["budget"] for row in infeasible] == [str(1 << 10)]
    assert "budget" in infeasible[0].note
    for row in found.select("resident growth"):
        budget = next(r for r in found.select("budget") if r.labels == row.labels)
        assert row.median <= 2 * budget.median
    capsys.readouterr()
    assert main(["compare", str(path), str(path)]) == 0
    assert "no difference beyond noise" in capsys.readouterr().out
    assert main(["report", str(path), "-o", str(tmp_path / "page.html"), "--quiet"]) == 0
    assert (tmp_path / "page.html").read_text().count("<img") == 2
    assert not any((tmp_path / "scratch" / "partitions").iterdir())


def test_load_on_a_running_appliance(tmp_path: Path) -> None:
    words = ["load", "--models", "digits", "--clients", "1", "3", "--shares", "0.5", "--quiet"]
    words += ["--rounds", "1", "--seconds", "0.2", "-o", str(tmp_path / "results")]
    with running(prepare(tmp_path)) as appliance:
        words += ["--url", appliance.url, "--cacert", str(appliance.certificate)]
        assert main(words) == 0
        assert main([*words, "--models", "nobody"]) == 1
        assert main([*words, "--lock-step", "4"]) == 2, "it runs as it was built"
    first, second = (read_result(path) for path in results(tmp_path / "results", "load"))
    assert {row.labels["runtime"] for row in first.rows} == {"process"}
    assert all(row.median > 0 for row in first.select("throughput"))
    assert all(row.median >= 1 for row in first.select("batch size"))
    assert all(0 < row.median < 2 for row in first.select("busy"))
    assert second.rows == []
    assert "404" in second.failures[0].reason


def test_compare_tells_what_got_slower(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["peers", "--models", "wide", "--threads", "1", "--rounds", "6", "--quiet"]
    assert main([*words, "-o", str(tmp_path)]) == 0
    (path,) = results(tmp_path, "peers")
    slower = json.loads(path.read_text())
    for row in slower["rows"]:
        row["samples"] = [10 + each for each in row["samples"]]
    other = tmp_path / "slower.json"
    other.write_text(json.dumps(slower))
    assert main(["compare", str(path), str(other)]) == 1
    out = capsys.readouterr().out
    assert "differs" in out
    assert "3 differences beyond noise" in out
    assert main(["compare", str(path), str(tmp_path / "page.html")]) == 2


@pytest.mark.parametrize("subcommand", ["partitions", "load", "all"])
def test_unknown_models_stop_it_before_anything_is_measured(
    subcommand: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [subcommand, "--models", "wide", "resnet-51", "alexnte", "--quiet"]
    with pytest.raises(SystemExit) as stopped:
        main([*words, "-o", str(tmp_path / "results")])
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert "no model resnet-51, alexnte; there are " in said
    assert "resnet-50" in said
    assert not (tmp_path / "results").exists()


def test_ctrl_c_keeps_what_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The whole set stops at the first interrupted part; its files say so."""

    def cases(_options: object) -> list[campaign.Case]:
        def stop(_step: object) -> list[object]:
            raise KeyboardInterrupt

        return [campaign.Case("stopped", 1, stop)]  # type: ignore[arg-type]

    monkeypatch.setattr(standard, "_CASES", {"modes": cases, "peers": cases})
    words = ["all", "--only", "modes", "peers", "--quiet", "-o", str(tmp_path)]
    assert main(words) == 130
    (path,) = results(tmp_path, "modes")
    assert read_result(path).partial
    assert results(tmp_path, "peers") == []
    assert "marked as partial" in capsys.readouterr().err
    assert len(list(tmp_path.glob("*-all.html"))) == 1


def test_the_standard_set_has_every_option_that_its_parts_have(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An option that is added to a subcommand can't be forgotten here."""
    seen: dict[str, set[str]] = {}

    def keep(name: str) -> Callable[[Namespace], list[campaign.Case]]:
        def cases(found: Namespace) -> list[campaign.Case]:
            seen[name] = set(vars(found)) - {"run"}
            return []

        return cases

    parts = tuple(standard._CASES)
    monkeypatch.setattr(standard, "_CASES", {name: keep(name) for name in parts})
    assert main(["all", "--quiet", "-o", str(tmp_path)]) == 0
    of_all = dict(seen)
    for name in parts:
        monkeypatch.setattr(f"tools.commands.benchmark.{maker_of(name)}", keep(name))
        assert main([name, "--quiet", "-o", str(tmp_path)]) == 0
        assert of_all[name] == seen[name] - {"cacert", "token_file"}


def maker_of(name: str) -> str:
    """Gives the name of the function that makes a subcommand's cases."""
    special = {"peers": "peer", "partitions": "sweep", "load": "load"}
    module = "hostile" if name in {"tenants", "attacks"} else "suites"
    return f"{module}.{special.get(name, name.removesuffix('s'))}_cases"


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["compare", "/nowhere/a.json", "/nowhere/b.json"], 2),
        (["report", "/nowhere/a.json"], 2),
    ],
)
def test_a_mistake_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    status: int,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == status
    err = capsys.readouterr().err
    assert "Traceback" not in err
    assert err.count("\n") <= 2


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["nothing"],
        ["modes", "--rounds", "0"],
        ["load", "--url", "http://localhost:1"],
        ["load", "--seconds", "nan"],
        ["partitions", "--budgets", "12"],
        ["compare", "one.json"],
    ],
)
def test_wrong_usage(words: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == 2
