"""What people do with the dashboard, in a real browser: `browser.py STORY`, which the tests of browser.rs start.

A story waits for what the page shows, never for a time. Each page that it looks at is read by axe-core in light and
dark, wide and at 360 pixels, and put into a picture.
"""

import json
import os
import re
import signal
import sys
import urllib.request
from pathlib import Path

import axe_playwright_python
from playwright.sync_api import expect, sync_playwright

URL = os.environ["MENDB_URL"]
PICTURES = Path(os.environ["MENDB_PICTURES"])
AXE = Path(axe_playwright_python.__file__).with_name("axe.min.js")
WIDE = {"width": 1100, "height": 760}
NARROW = {"width": 360, "height": 740}
# A story that takes longer hangs.
STORY_SECONDS = 150
STEP_MS = 45_000


def token(name):
    return os.environ[f"MENDB_TOKEN_{name.upper()}"]


def api(method, path, body=None, kind="application/json"):
    """A request of somebody else, who has no browser."""
    data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {token('ann')}", "Content-Type": kind}
    with urllib.request.urlopen(urllib.request.Request(URL + path, data, headers, method=method)) as answer:
        text = answer.read().decode()
    return json.loads(text) if answer.headers["Content-Type"] == "application/json" else text


def rows():
    return api("GET", "/v1/tables/cities/rows?format=csv")


def damage():
    """Somebody writes over the table."""
    api("POST", "/v1/tables/cities/rows?format=csv", b"name,country,people\nLyon,FR,0\nUtopia,XX,1\n")
    return rows()


def back_up(**wish):
    operation = api("POST", "/v1/collections/world/backups", wish)["operation_id"]
    api("GET", f"/v1/operations/{operation}/end")


class Person:
    """Somebody before a browser."""

    def __init__(self, browser):
        context = browser.new_context(viewport=WIDE, color_scheme="light", timezone_id="UTC", reduced_motion="reduce")
        context.add_init_script(path=AXE)
        self.page = page = context.new_page()
        page.set_default_timeout(STEP_MS)
        self.faults = []
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("console", self.hear)
        page.on("request", self.leaves)
        page.goto(URL)

    def hear(self, message):
        # That an answer is an error is told by the page.
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.faults.append(message.text)

    def leaves(self, request):
        if not request.url.startswith(URL):
            self.faults.append(f"asks for {request.url}")

    def log_in(self, name):
        self.page.get_by_label("Token").fill(token(name))
        self.press("Log in")
        expect(self.page.get_by_role("heading", name="Collections")).to_be_visible()

    def press(self, name, **where):
        self.page.get_by_role("button", name=name, exact=True, **where).click()

    def agree(self, name):
        dialog = self.page.get_by_role("dialog")
        expect(dialog).to_be_visible()
        dialog.get_by_role("button", name=name, exact=True).click()

    def go(self, view):
        self.page.get_by_role("link", name=view, exact=True).click()
        expect(self.page.get_by_role("heading", name=view, level=2)).to_be_visible()

    def sees_state(self, state):
        expect(self.page.locator("#main p [class^=state-]").first).to_have_text(state)

    def look(self, name):
        """Nobody is shut out of what the page shows."""
        page = self.page
        for width, size in ("wide", WIDE), ("narrow", NARROW):
            page.set_viewport_size(size)
            wide = page.evaluate("() => document.documentElement.scrollWidth")
            assert wide <= size["width"], f"{name} is {wide} pixels wide where {size['width']} are"
            for scheme in "light", "dark":
                page.emulate_media(color_scheme=scheme)
                # What changes with the scheme are colours.
                rules = "undefined" if scheme == "light" else "{ type: 'rule', values: ['color-contrast', 'link-in-text-block'] }"
                run = f"() => axe.run(document, {{ resultTypes: ['violations'], runOnly: {rules} }})"
                found = page.evaluate(run)["violations"]
                told = [f"{one['id']}: {one['help']}: {node['html']} {node['failureSummary']}" for one in found for node in one["nodes"]]
                assert not told, f"{name}, {width}, {scheme}:\n" + "\n".join(told)
                page.screenshot(path=PICTURES / f"{name}-{width}-{scheme}.png")
        page.emulate_media(color_scheme="light")
        page.set_viewport_size(WIDE)

    def tab_to(self, name):
        """Goes on with the tabulator to what has this name; whatever it stops at shows that it has the focus."""
        stops = []
        for _ in range(80):
            self.page.keyboard.press("Tab")
            told, outline = self.page.evaluate(
                """() => { const at = document.activeElement;
                  return [at.getAttribute("aria-label") ?? at.labels?.[0]?.textContent.trim() ?? at.textContent.trim(),
                          at === document.body ? "body" : getComputedStyle(at).outlineStyle]; }"""
            )
            stops.append(told)
            assert outline != "none", f"{told!r} does not show its focus"
            if told == name:
                return
        raise AssertionError(f"no way to {name!r} by keyboard: {stops}")

    def focused(self):
        return self.page.evaluate("() => document.activeElement.getAttribute('aria-label') ?? document.activeElement.textContent")


def mend(ann):
    """A backup, damage, a mend as it was previewed, and its undo."""
    page = ann.page
    page.get_by_label("Token").fill("mendb_0")
    ann.press("Log in")
    expect(page.get_by_role("alert")).to_be_visible()
    ann.look("login")
    ann.log_in("ann")
    expect(page.get_by_text("No backup yet.")).to_be_visible()
    whole = rows()
    ann.press("Full backup of world")
    ann.sees_state("done")
    wrong = damage()
    assert wrong != whole
    back_up(incremental=True, label="later")
    ann.go("Collections")
    page.locator(".backup.full").click()
    ann.press("What changed since")
    expect(page.get_by_label("what differs")).to_contain_text("cities")
    ann.press("Preview a mend to it")
    expect(page.get_by_label("the plan")).to_contain_text("total: 2 rows read, 1 upserted, 1 erased")
    ann.look("preview")
    ann.press("Mend")
    expect(page.get_by_role("dialog")).to_contain_text("It can be undone.")
    ann.look("question")
    ann.agree("Mend")
    expect(page.get_by_role("heading", level=2)).to_have_text(re.compile("^mend-"))
    ann.sees_state("done")
    ann.look("operation")
    assert rows() == whole
    ann.press("Undo")
    ann.agree("Undo")
    expect(page.get_by_role("heading", level=2)).to_have_text(re.compile("^undo-"))
    ann.sees_state("done")
    assert rows() == wrong
    ann.go("Operations")
    expect(page.get_by_role("row")).to_have_count(5)
    ann.look("operations")


def drift(ann):
    """A plan is carried out as it was shown, or not at all."""
    page = ann.page
    back_up()
    damage()
    ann.log_in("ann")
    page.locator(".backup.full").click()
    ann.press("Preview a mend to it")
    expect(page.get_by_label("the plan")).to_be_visible()
    api("POST", "/v1/tables/cities/rows?format=csv", b"name,country,people\nBern,CH,1\n")
    late = rows()
    ann.press("Mend")
    ann.agree("Mend")
    expect(page.locator("#said")).to_contain_text("so nothing was done")
    assert rows() == late
    # Two backups that are chosen are compared.
    back_up(incremental=True, label="late")
    page.reload()
    page.locator(".backup").first.click()
    page.locator(".backup").last.click()
    page.get_by_role("button", name=re.compile("^What changed from")).click()
    expect(page.get_by_label("what differs")).to_contain_text("cities")


def failure(ann):
    """What fails says why, and goes on when that is repaired."""
    page = ann.page
    whole = rows()
    back_up()
    damage()
    [data] = Path(os.environ["MENDB_REPOSITORY_DIRECTORY"]).glob("collections/world/*_full/cities")
    away = data.with_name("away")
    data.rename(away)
    operation = api("POST", "/v1/collections/world/restores", {"in_place": True})["operation_id"]
    ann.log_in("ann")
    ann.go("Operations")
    row = page.get_by_role("row", name=re.compile(operation))
    expect(row).to_contain_text("failed")
    expect(row).to_contain_text("does not exist")
    page.get_by_role("link", name=operation).click()
    ann.sees_state("failed")
    page.get_by_role("button", name=re.compile("^prepare, shard 0: failed")).click()
    expect(page.get_by_text("attempt 1,")).to_contain_text("does not exist")
    ann.look("failed")
    away.rename(data)
    ann.press("Resume")
    ann.sees_state("done")
    expect(page.get_by_role("button", name="prepare, shard 0: done after a failure")).to_be_visible()
    assert rows() == whole


def shards(ann):
    """A thousand shards are read at a glance, and one by one."""
    page = ann.page
    ann.log_in("ann")
    ann.press("Full backup of shop")
    copied = page.locator(".map button[aria-label^='copy,']")
    expect(copied).to_have_count(1000)
    done = "least => document.querySelectorAll('.shard.done[aria-label^=copy]').length >= least"
    page.wait_for_function(done, arg=20)
    # What has the focus keeps it while the page changes.
    page.get_by_role("button", name="Pause").focus()
    page.wait_for_function(done, arg=60)
    assert ann.focused() == "Pause"
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_contain_text("What is done stays done.")
    ann.agree("Pause")
    ann.sees_state("paused")
    expect(page.locator(".legend")).to_contain_text("waiting")
    # One stop of the tabulator, and arrows within.
    assert page.locator(".map [tabindex='0']").count() == 1
    page.locator(".map [tabindex='0']").focus()
    page.keyboard.press("End")
    assert ann.focused() == "copy, shard 999: waiting"
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    expect(page.get_by_text("copy, shard 998 of orders")).to_be_visible()
    ann.look("shards")
    ann.press("Cancel")
    ann.agree("Cancel")
    ann.sees_state("cancelled")


def viewer(vic):
    """A viewer looks, and changes nothing."""
    page = vic.page
    back_up(label="monday")
    vic.log_in("vic")
    for name in "Full backup of world", "Increment of world", "Verify world", "Drill of world", "Retention of world":
        expect(page.get_by_role("button", name=name)).to_be_disabled()
    page.get_by_role("button", name=re.compile("^monday")).click()
    for name in "Preview a mend to it", "Delete":
        expect(page.get_by_role("button", name=name)).to_be_disabled()
    vic.press("What changed since")
    expect(page.get_by_label("what differs")).to_be_visible()
    vic.look("viewer")
    expect(page.get_by_role("link", name="Audit")).to_be_hidden()
    page.goto(f"{URL}/#/audit")
    expect(page.get_by_role("alert")).to_contain_text("admin")
    vic.go("Schedules")
    expect(page.get_by_role("button", name="Add")).to_have_count(0)
    # What the page does not offer, the server refuses.
    status = page.evaluate(
        """async () => (await fetch("/v1/collections/world/backups", { method: "POST", body: "{}",
             headers: { "Content-Type": "application/json", "X-Mendb-Request": "1" } })).status"""
    )
    assert status == 403, status
    assert len(api("GET", "/v1/backups")) == 1
    vic.press("Log out")
    expect(page.get_by_label("Token")).to_be_focused()
    page.goto(f"{URL}/#/operations")
    expect(page.get_by_label("Token")).to_be_visible()


def keyboard(ann):
    """All of it without a mouse."""
    page = ann.page
    expect(page.get_by_label("Token")).to_be_focused()
    page.keyboard.type(token("ann"))
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Collections")).to_be_visible()
    ann.tab_to("Full backup of world")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=2)).to_have_text(re.compile("^backup-"))
    ann.sees_state("done")
    damage()
    ann.tab_to("Collections")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Collections")).to_be_visible()
    expect(page.locator("#main")).to_be_focused()
    mark = page.locator(".backup.full")
    ann.tab_to(mark.text_content())
    page.keyboard.press("Space")
    assert mark.get_attribute("aria-pressed") == "true"
    ann.tab_to("Preview a mend to it")
    page.keyboard.press("Enter")
    expect(page.get_by_label("the plan")).to_be_visible()
    ann.tab_to("Mend")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    assert ann.focused() == "Mend"
    page.keyboard.press("Enter")
    ann.tab_to("Mend")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=2)).to_have_text(re.compile("^mend-"))
    ann.sees_state("done")


def schedules(ann):
    """Schedules, what rules would keep, and who asked for what."""
    page = ann.page
    for label in "a", "b", "c":
        back_up(label=label)
    ann.log_in("ann")
    ann.press("Retention of world")
    page.get_by_label("Newest").fill("1")
    ann.press("Preview")
    kept = page.get_by_role("table", name="what rules keep of world")
    expect(kept).to_contain_text("kept by: newest, last")
    expect(page.get_by_role("button", name=re.compile("^c.*kept by"))).to_be_visible()
    page.get_by_text("Growth in the repository").click()
    expect(page.get_by_role("img", name=re.compile("3 backups came to"))).to_be_visible()
    ann.look("collections")
    ann.press("Carry out")
    ann.agree("Carry out")
    ann.sees_state("done")
    assert len(api("GET", "/v1/backups")) == 1
    ann.go("Schedules")
    page.get_by_label("Name").fill("nightly")
    page.get_by_label("Cron").fill("61 3 * * *")
    ann.press("Add")
    expect(page.get_by_role("alert")).to_contain_text("61")
    page.get_by_label("Cron").fill("0 3 * * *")
    ann.press("Add")
    row = page.get_by_role("row", name=re.compile("nightly"))
    expect(row).to_contain_text("03:00")
    ann.press("Pause nightly")
    expect(row).to_contain_text("paused")
    # What was pressed keeps the focus, and is what it became.
    expect(page.get_by_role("button", name="Resume nightly")).to_be_focused()
    page.keyboard.press("Enter")
    expect(row).to_contain_text("03:00")
    ann.look("schedules")
    ann.press("Run nightly now")
    expect(page.get_by_role("heading", level=2)).to_have_text(re.compile("^backup-"))
    ann.sees_state("done")
    ann.go("Audit")
    expect(page.get_by_role("row", name=re.compile("schedules.nightly.run")).first).to_be_visible()
    ann.look("audit")
    ann.go("Schedules")
    ann.press("Remove nightly")
    ann.agree("Remove")
    expect(page.get_by_text("There is none yet.")).to_be_visible()


def tables(vic):
    """A viewer sees what tables there are, and takes their rows along."""
    page = vic.page
    vic.log_in("vic")
    vic.go("Tables")
    row = page.get_by_role("row", name=re.compile("cities"))
    expect(row).to_contain_text("3")
    expect(row).to_contain_text("ready")
    vic.press("Describe cities")
    expect(page.get_by_label("what cities is")).to_contain_text("people")
    vic.look("tables")
    with page.expect_download() as begun:
        page.get_by_role("link", name="cities as CSV").click()
    assert begun.value.suggested_filename == "cities.csv"
    assert Path(begun.value.path()).read_text() == rows()


STORIES = [mend, drift, failure, shards, viewer, keyboard, schedules, tables]


def tell(story):
    signal.alarm(STORY_SECONDS)
    expect.set_options(timeout=STEP_MS)
    with sync_playwright() as playwright:
        # Debian's browser, without what it would ask of the network.
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium",
            args=["--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
        )
        person = Person(browser)
        try:
            story(person)
        except BaseException:
            person.page.screenshot(path=PICTURES / f"{story.__name__}-at-its-end.png")
            print(person.page.locator("body").aria_snapshot(), file=sys.stderr)
            raise
        assert not person.faults, person.faults
        browser.close()


tell({story.__name__: story for story in STORIES}[sys.argv[1]])
