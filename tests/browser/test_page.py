"""A person at the page: by pointer, by keyboard, with a screen reader, in both colour schemes."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.browser.pages import PICTURE, Visit, chromium, visit
from tests.integration.appliance import DIGITS, Appliance, prepare, running
from tools.commands.access import main
from tools.planner.plan import read_plan
from tools.sizes import format_size

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.browser

PLAN = read_plan(DIGITS / "plan.json")
PEAK, BUDGET = format_size(PLAN.peak_bytes), format_size(PLAN.budget_bytes)

CONTRAST = """() => {
    const numbers = (text) => text.match(/[\\d.]+/g).map(Number);
    const light = (colour) => {
        const [red, green, blue] = colour.slice(0, 3).map((each) => {
            const part = each / 255;
            return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
        });
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
    };
    const ground = (element) => {
        const colour = numbers(getComputedStyle(element).backgroundColor);
        return colour.length === 4 && colour[3] === 0 ? ground(element.parentElement) : colour;
    };
    const texts = [...document.querySelectorAll("body *")].filter((each) => each.checkVisibility()
        && [...each.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim()));
    return texts.map((each) => {
        const pair = [numbers(getComputedStyle(each).color), ground(each)].map(light);
        return [(Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05), each.textContent];
    });
}"""
"""Contrast of every visible text with what is behind it, as WCAG 2.2 defines it."""


@dataclass(frozen=True)
class Guarded:
    """An appliance with a policy, and tokens by the rights of their tenants."""

    url: str
    full: str
    infer_only: str


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as made:
        yield made


@pytest.fixture(scope="module")
def appliance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    with running(prepare(tmp_path_factory.mktemp("open"))) as found:
        yield found


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("guarded")
    policy = folder / "access.json"
    for name, rights in (("clinic", ["infer", "metadata"]), ("robot", ["infer"])):
        options = [part for right in rights for part in ("--right", right)]
        assert main(["add-tenant", str(policy), name, "--model", "digits", *options]) == 0
        assert main(["add-token", str(policy), name, "-o", str(folder / name)]) == 0
    config = prepare(folder, access_policy=str(policy), insecure_open_access=False)
    tokens = [(folder / name).read_text().strip() for name in ("clinic", "robot")]
    with running(config) as found:
        yield Guarded(found.url, *tokens)


def best(found: Visit) -> str:
    return str(found.page.locator("#labels th").first.inner_text())


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_dropped_picture_becomes_labels_times_and_memory(
    browser: Browser, appliance: Appliance, theme: str
) -> None:
    with visit(browser, appliance.url, theme=theme) as found:
        found.drop(PICTURE)
        found.await_result()
        page = found.page
        assert best(found) == "3"
        assert page.locator("#labels tr").count() == 5
        assert page.locator("#partitions tr").count() == 5
        memory = page.locator("#memory").inner_text()
        assert memory.startswith(f"At most {PEAK} for this run, of {BUDGET} for all models")
        assert "digits version 1: 3, 9" in page.locator("#status").inner_text()
        ends = [
            float(text.split(" to ")[1])
            for text in page.locator("#partitions .line .unseen").all_text_contents()
        ]
        assert ends == sorted(ends)
        poor = [each for each in page.evaluate(CONTRAST) if each[0] < 4.5]
        assert poor == []
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert ground == {"light": "rgb(245, 244, 239)", "dark": "rgb(20, 24, 27)"}[theme]
        assert found.problems == []
        assert found.hosts == {appliance.url.removeprefix("https://")}


def test_what_the_server_is_stands_on_the_page(browser: Browser, appliance: Appliance) -> None:
    der = ssl.PEM_cert_to_DER_cert(appliance.certificate.read_text())
    digest = hashlib.sha256(der).digest().hex(":").upper()
    with visit(browser, appliance.url) as found:
        assert found.page.locator("#fingerprint").inner_text() == digest
        assert "SIMULATION (process)" in found.page.get_by_role("note").inner_text()
        found.page.wait_for_selector("#insecure", state="visible")
        settings = found.page.locator("#insecure").inner_text()
        assert settings == "insecure_key_folder, insecure_open_access"


def test_keyboard_alone(browser: Browser, appliance: Appliance) -> None:
    with visit(browser, appliance.url) as found:
        page = found.page
        # Listening begins some time after it is asked for; a chooser that opens before is lost.
        page.on("filechooser", lambda _: None)
        page.wait_for_selector("#model option", state="attached")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") == "picture"
        outline = page.evaluate("getComputedStyle(document.querySelector('#drop')).outlineStyle")
        assert outline == "solid"
        with page.expect_file_chooser() as chooser:
            page.keyboard.press("Space")
        chooser.value.set_files(PICTURE)
        found.await_result()
        assert best(found) == "3"
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") == "model"
        page.keyboard.press("Tab")
        with page.expect_response("**/classify") as answer:
            page.keyboard.press("Enter")
        assert answer.value.status == 200
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.getAttribute('role')") == "region"


def test_a_screen_reader_finds_names_tables_and_news(
    browser: Browser, appliance: Appliance
) -> None:
    with visit(browser, appliance.url) as found:
        found.drop(PICTURE)
        found.await_result()
        page = found.page
        assert page.get_by_role("combobox", name="Model", exact=True).count() == 1
        assert page.get_by_role("button", name="Classify").count() == 1
        field = page.get_by_label("Drop a picture here or choose a file")
        assert field.get_attribute("type") == "file"
        assert "digits version 1" in page.get_by_role("status").inner_text()
        labels = page.get_by_role("table", name="Labels")
        assert labels.get_by_role("row").nth(1).inner_text().split() == ["3", "97.5", "%"]
        times = page.get_by_role("table", name="Time line of partitions")
        headers = times.get_by_role("columnheader").all_text_contents()
        assert headers[:3] == ["Partition", "Begins and ends, ms", "Decrypt, ms"]
        assert times.get_by_role("rowheader").all_text_contents() == list("01234")
        assert "3-1.png" in (page.locator("#preview").get_attribute("alt") or "")


def test_small_screen(browser: Browser, appliance: Appliance) -> None:
    with visit(browser, appliance.url, width=320) as found:
        found.drop(PICTURE)
        found.await_result()
        assert found.page.evaluate("document.documentElement.scrollWidth") == 320


def test_what_is_no_picture_is_named_and_takes_the_old_labels_away(
    browser: Browser, appliance: Appliance, tmp_path: Path
) -> None:
    text = tmp_path / "note.txt"
    text.write_text("hello")
    with visit(browser, appliance.url) as found:
        for kind, said in (("text/plain", "Expected a PNG or JPEG"), ("image/png", "picture")):
            found.drop(PICTURE)
            found.await_result()
            found.drop(text, kind)
            found.page.wait_for_selector("#status.failure")
            assert said in found.page.locator("#status").inner_text()
            assert found.page.locator("#result").is_hidden()


def test_a_token_is_asked_for_and_kept_in_memory_alone(browser: Browser, guarded: Guarded) -> None:
    with visit(browser, guarded.url) as found:
        page = found.page
        page.wait_for_selector("#token", state="visible")
        assert page.evaluate("document.activeElement.id") == "token"
        page.keyboard.type(guarded.full[:-1] + "!")
        page.keyboard.press("Enter")
        page.wait_for_selector("#status.failure")
        assert "token isn't valid" in page.locator("#status").inner_text()
        page.keyboard.type(guarded.full)
        page.keyboard.press("Enter")
        page.wait_for_selector("#access", state="hidden")
        found.drop(PICTURE)
        found.await_result()
        assert best(found) == "3"
        kept = page.evaluate(
            "[localStorage.length, sessionStorage.length, document.cookie, location.search,"
            " document.querySelector('#token').value]"
        )
        assert kept == [0, 0, "", "", ""]
        assert page.context.cookies() == []
        page.reload()
        page.wait_for_selector("#token", state="visible")


def test_who_may_not_list_models_writes_a_name(browser: Browser, guarded: Guarded) -> None:
    with visit(browser, guarded.url) as found:
        found.page.get_by_label("Access token").fill(guarded.infer_only)
        found.page.keyboard.press("Enter")
        found.page.get_by_label("Model, by name").fill("digits")
        found.drop(PICTURE)
        found.await_result()
        assert best(found) == "3"


def test_a_label_is_text_whatever_it_says(browser: Browser, appliance: Appliance) -> None:
    label = "<img src=x onerror='window.ran = true'>"
    with visit(browser, appliance.url) as found:
        found.page.route(
            "**/classify",
            lambda route: route.fulfill(
                json={
                    "model": {"id": label, "version": 1},
                    "labels": [{"label": label, "index": 0, "probability": 1.0}],
                    "timing": {"decode_ms": 0, "run_ms": 0, "partitions": []},
                    "memory": {"budget_bytes": 1, "peak_bytes": 1},
                }
            ),
        )
        found.drop(PICTURE)
        found.await_result()
        assert best(found) == label
        assert label in found.page.locator("#status").inner_text()
        assert found.page.evaluate("[window.ran, document.images.length]") == [None, 2]


def test_the_policy_holds_in_a_browser(browser: Browser, appliance: Appliance) -> None:
    """Whatever got into the page could run nothing, and send nothing to anybody else."""
    with visit(browser, appliance.url) as found:
        ran = found.page.evaluate(
            """async () => {
                const script = document.createElement("script");
                try { script.textContent = "window.ran = true"; } catch {}
                document.body.append(script);
                try { document.body.innerHTML += "<p>"; window.ran = true; } catch {}
                const sent = await fetch("https://127.0.0.1:9/").then(() => true, () => false);
                return [Boolean(window.ran), sent];
            }"""
        )
        assert ran == [False, False]
        assert any("Content Security Policy" in each for each in found.problems)
