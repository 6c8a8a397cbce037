"""A person labels in Chromium: by keys, by mouse, in two tabs, while the server dies, and with an ended session."""

import sqlite3
from contextlib import closing
from types import SimpleNamespace

import pytest
from playwright.sync_api import TimeoutError
from served_station import SIZE, serve
from unlabelled_drops import marks_of, one_server, sources, unlabelled_place

from fetalflow.annotation.studies import Study, write_study
from fetalflow.biometry.calipers import Ellipse
from fetalflow.station.accounts import Accounts
from fetalflow.station.app import station

PASSWORD = "correct horse battery"
PEOPLE = {"anna": PASSWORD, "ben": PASSWORD}
SCREEN = """([x, y]) => {
  const box = player.stage.getBoundingClientRect();
  const [left, top] = player.toImage({ clientX: box.left, clientY: box.top });
  return [box.left + (x - left) * player.scale, box.top + (y - top) * player.scale];
}"""


SENT = """async () => {
  await outbox.loaded;
  await new Promise((resolve) => outbox.on((state) => { if (!state.waiting) resolve(); }));
}"""


class Person:
    """A browser of one account; `tab` opens a page of it."""

    def __init__(self, browser, place, address: str, name: str, errors: list[str]) -> None:
        self.place, self.address, self.errors = place, address, errors
        self.context = browser.new_context(viewport=SIZE, base_url=address)
        self.context.set_default_timeout(20_000)
        self.log_in(name)

    def log_in(self, name: str) -> None:
        token, _ = Accounts(self.place.folder / "accounts.db").log_in(name, PASSWORD)
        self.context.add_cookies([{"name": "fetalflow_session", "value": token, "url": self.address}])

    def tab(self, source: str):
        page = self.context.new_page()
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.goto(f"/cine/{source}")
        page.wait_for_selector("#marks-labels button")
        page.wait_for_selector("#marks-state:has-text('open'), #marks-state:has-text('submitted')")
        return page


def press(page, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def saved(page) -> None:
    """Wait until the server has everything; on a busy disk one change may take many seconds."""
    try:
        page.wait_for_selector("#marks-saved:text-is('all saved')", timeout=60_000)
    except TimeoutError as error:
        said = [page.inner_text(f"#marks-{part}") for part in ("saved", "message", "refused-words")]
        raise AssertionError(f"{said} {page.evaluate('JSON.stringify(outbox.state)')}") from error


def spans_of(place, source: str, name: str = "anna") -> list[tuple[str, int, int]]:
    return sorted((mark.label, mark.first_frame, mark.last_frame) for mark in marks_of(place, name, source))


def accessible(page) -> None:
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page)
    assert not found.violations_count, found.generate_report()


@pytest.fixture(scope="module")
def stations(tmp_path_factory, browser):
    """By task: a place with a server in this process, and a function that gives a person's browser."""
    made, running, contexts, errors = {}, [], [], []
    for task in ("movement", "planes"):
        place = unlabelled_place(tmp_path_factory.mktemp(task) / "w", task, PEOPLE)
        running.append(serve(station(place)))
        address = next(running[-1])

        def person(name="anna", place=place, address=address):
            contexts.append(Person(browser, place, address, name, errors))
            return contexts[-1]

        made[task] = SimpleNamespace(place=place, sources=sources(place), person=person)
    yield made
    for each in contexts:
        each.context.close()
    for server in running:
        next(server, None)
    assert not errors


def test_spans_are_made_moved_and_joined_by_keys_alone(stations):
    there = stations["movement"]
    place, source = there.place, there.sources[0]
    page = there.person().tab(source)
    press(page, "i", *["ArrowRight"] * 3, "o", "1")  # head 0-3
    press(page, "i", "Shift+ArrowRight", "6")  # leg 3-13: another anatomy at the same time
    saved(page)
    assert spans_of(place, source) == [("head", 0, 3), ("leg", 3, 13)]
    press(page, "Home", "ArrowRight", "ArrowRight", "i", *["ArrowRight"] * 4, "1")  # head 2-6 meets head 0-3
    saved(page)
    assert spans_of(place, source) == [("head", 0, 6), ("leg", 3, 13)]
    press(page, "Control+z", "Control+z", "Control+y")
    saved(page)
    assert spans_of(place, source) == [("head", 0, 3), ("leg", 3, 13)]
    press(page, ".", ".", "Home", "s", "}", "4")  # the second span, leg: from frame 0, to 14, and it is a hand
    saved(page)
    assert spans_of(place, source) == [("hand", 0, 14), ("head", 0, 3)]
    press(page, "Delete", "Escape", "5", "w", "d")  # heart is the label in use, and the whole cine shows one
    saved(page)
    assert spans_of(place, source) == [("head", 0, 3), ("heart", 0, 29)]
    assert source in place.journal.done("movement", "anna")
    press(page, "i", "1")
    assert "Press r to open it again" in page.inner_text("#marks-message")
    assert spans_of(place, source) == [("head", 0, 3), ("heart", 0, 29)]
    accessible(page)
    press(page, "n")
    page.wait_for_url(lambda url: any(f"/{each}?task=movement" in url for each in there.sources[1:]))


def test_an_edge_is_dragged_on_the_time_line_and_undo_takes_the_drag_back(stations):
    there = stations["movement"]
    source = there.sources[1]
    page = there.person().tab(source)
    press(page, "i", "Shift+ArrowRight", "2")
    lane = page.locator("canvas[aria-label^='Your marks']").bounding_box()

    def left_of(frame: int) -> float:
        return lane["x"] + lane["width"] * frame / 30

    page.mouse.move(left_of(11), lane["y"] + 8)
    page.mouse.down()
    page.mouse.move(left_of(15) + 3, lane["y"] + 8, steps=4)
    page.mouse.move(left_of(20) + 3, lane["y"] + 8, steps=4)
    page.mouse.up()
    saved(page)
    assert spans_of(there.place, source) == [("body", 0, 20)]
    press(page, "Control+z")
    saved(page)
    assert spans_of(there.place, source) == [("body", 0, 10)]


def test_two_people_and_two_windows_on_one_cine_lose_nothing(stations):
    there = stations["movement"]
    source = there.sources[2]
    first, second, his = (there.person(name).tab(source) for name in ("anna", "anna", "ben"))
    press(first, "w", "1")
    press(his, "w", "2")
    saved(first), saved(his)
    assert spans_of(there.place, source, "anna") == [("head", 0, 29)]
    assert spans_of(there.place, source, "ben") == [("body", 0, 29)]
    second.evaluate("dispatchEvent(new Event('focus'))")  # as when a person comes back to the window
    second.wait_for_selector("#marks-list >> text=head")
    press(second, ".", "3")  # the other window gives the mark of the first one another label
    saved(second)
    first.evaluate("dispatchEvent(new Event('focus'))")
    first.wait_for_selector("#marks-list >> text=arm")
    assert "changed in another tab or window" in first.inner_text("#marks-message")
    press(first, "Control+z")
    assert "changed since then" in first.inner_text("#marks-message")
    assert spans_of(there.place, source) == [("arm", 0, 29)]
    assert "head" not in his.inner_text("#marks-list") and "arm" not in his.inner_text("#marks-list")


def test_stills_take_one_key_each_and_the_next_one_comes_by_itself(stations):
    there = stations["planes"]
    page = there.person().context.new_page()
    page.goto("/labelling")
    page.wait_for_selector("#still[data-source]")
    accessible(page)
    for key in ("1", "2", "3"):
        page.wait_for_selector(f"#still-name:has-text('picture {key}')")
        press(page, key)
    press(page, "Control+z", "6", "ArrowLeft", "ArrowLeft", "4", "ArrowRight", "5")
    page.wait_for_selector("text=All stills are labelled.")
    saved(page)
    found = [[mark.label for mark in marks_of(there.place, "anna", source)] for source in there.sources]
    assert sorted(found) == sorted([["Fetal abdomen"], ["Fetal thorax"], ["Other"], ["Maternal cervix"]])
    assert there.place.journal.done("planes", "anna") == set(there.sources)


@pytest.fixture(scope="module")
def measured(tmp_path_factory, browser):
    """A biometry station as a process, and a browser of anna."""
    place, errors = unlabelled_place(tmp_path_factory.mktemp("biometry") / "w", "biometry", PEOPLE), []
    write_study(place.journal, "biometry", "lea", Study(name="seen", accounts=("anna", "ben"), network=True))
    with one_server(place) as server:
        anna = Person(browser, place, server.address, "anna", errors)
        yield SimpleNamespace(place=place, sources=sources(place), server=server, anna=anna)
        anna.context.close()
    assert not errors


def click(page, *points) -> None:
    for point in points:
        page.mouse.click(*page.evaluate(SCREEN, list(point)))


def test_shapes_are_drawn_by_mouse_and_keys_with_their_values(measured):
    source, place = measured.sources[1], measured.place
    page = measured.anna.tab(source)
    press(page, "1", "e")
    click(page, (80, 30), (120, 65), (80, 100), (40, 65))
    press(
        page, "3", "c", *["Shift+ArrowRight"] * 2, "Enter", *["Shift+ArrowDown"] * 4, "Enter", "ArrowDown", "ArrowDown"
    )
    press(page, "Escape", "2", "p")
    click(page, (50, 80), (90, 80), (90, 100), (50, 100), (50, 80))
    page.mouse.move(*page.evaluate(SCREEN, [90, 100]))
    page.mouse.down()
    page.mouse.move(*page.evaluate(SCREEN, [100, 105]), steps=3)
    page.mouse.up()
    saved(page)
    accessible(page)
    ellipse, caliper, outline = marks_of(place, "anna", source)
    assert (ellipse.label, caliper.label, outline.label) == ("head", "femur", "abdomen")
    assert ellipse.axes == pytest.approx((40, 35), abs=0.5) and ellipse.centre == pytest.approx((80, 65), abs=0.5)
    assert caliper.ends == ((100, 60), (100, 100.5))
    assert outline.corners[2] == pytest.approx((100, 105), abs=1) and len(outline.corners) == 4
    length = Ellipse(0, 0, 2 * ellipse.axes[0] * 0.5, 2 * ellipse.axes[1] * 0.5, 0).circumference
    assert f"circumference {length:.1f} mm" in page.inner_text("#marks-list")
    assert "20.3 mm" in page.inner_text("#marks-list") or "20.2 mm" in page.inner_text("#marks-list")
    answer = {
        "model": "net (12345678)",
        "label": "head",
        "frames": {"0": {"ellipse": None, "calipers": [[10, 20], [30, 40]]}},
    }
    answer["frames"]["0"]["outline"] = [[60, 40], [100, 40], [100, 60], [60, 60]]
    page.route("**/measured", lambda route: route.fulfill(json=answer))
    press(page, "Escape", "Escape", "1", "b", "t")
    page.wait_for_selector("#marks-list >> text=area 205 mm²")  # 41 x 20 px of .5 mm
    saved(page)
    taken = marks_of(place, "anna", source)[-1]
    assert (taken.kind, taken.started_from) == ("brush", "net (12345678)") and "measurement" in taken.shown
    page.evaluate(
        "marks.change([[newId(), marks.make('ellipse', 'head', [0, 0], {centre: [9, 9], axes: [999, 999], angle: 0})]])"
    )
    page.wait_for_selector("#marks-refused >> text=more than half of the ellipse's outline lies outside the picture")
    page.click("text=Forget what was refused")
    saved(page)
    assert len(marks_of(place, "anna", source)) == 4
    page.close()


def test_a_server_that_is_killed_in_a_stroke_and_a_closed_tab_lose_nothing(measured):
    source, place = measured.sources[0], measured.place
    page = measured.anna.tab(source)
    press(page, "1", "b")
    page.mouse.move(*page.evaluate(SCREEN, [40, 40]))
    page.mouse.down()
    for step in range(60):
        page.mouse.move(*page.evaluate(SCREEN, [40 + step, 40]))
        if step > 5 and marks_of(place, "anna", source):
            break
    measured.server.kill()
    before = sum(marks_of(place, "anna", source)[0].runs[1::2])
    for step in range(20):
        page.mouse.move(*page.evaluate(SCREEN, [100, 45 + 2 * step]))
    page.mouse.up()
    page.wait_for_selector("#marks-saved:has-text('not saved yet')")
    painted = page.evaluate("marks.all()[0].runs")
    assert 0 < before < sum(painted[1::2]) and sum(marks_of(place, "anna", source)[0].runs[1::2]) == before
    press(page, "Escape", "3", "c")
    click(page, (20, 20), (50, 20))
    page.close()
    measured.server.start()
    other = measured.anna.context.new_page()
    other.goto("/cines")  # any page of the station sends what is left
    other.evaluate(SENT)
    brush, caliper = marks_of(place, "anna", source)
    assert list(brush.runs) == painted and caliper.ends[1] == pytest.approx((50, 20), abs=0.5)
    ids = [event.id for event in place.journal.events("biometry", source)]
    assert len(ids) == len(set(ids))
    other.close()


def test_an_ended_session_is_begun_again_in_the_page_and_another_account_sends_nothing_of_hers(measured):
    source, place = measured.sources[0], measured.place
    page = measured.anna.tab(source)
    count, late = len(marks_of(place, "anna", source)), []
    page.route("**/marks/*/*?after=*", lambda route: late.append(route))  # an answer that comes after the next log-in
    with page.expect_request("**/marks/*/*?after=*"):
        page.evaluate("dispatchEvent(new Event('focus'))")
    with closing(sqlite3.connect(place.folder / "accounts.db")) as database, database:
        database.execute("DELETE FROM sessions")
    press(page, "2", "c")
    click(page, (30, 30), (60, 30))
    page.wait_for_selector("#marks-log-in[open]")
    assert len(marks_of(place, "anna", source)) == count
    page.fill("#marks-log-in [name=password]", "wrong wrong wrong")
    press(page, "Enter")
    page.wait_for_selector("#marks-log-in >> text=The name or the password is wrong.")
    page.fill("#marks-log-in [name=password]", PASSWORD)
    press(page, "Enter")
    page.wait_for_selector("#marks-log-in", state="hidden")
    saved(page)
    assert len(marks_of(place, "anna", source)) == count + 1
    with page.expect_response("**/marks/*/*?after=*"):
        late[0].fulfill(status=401, json={"detail": "Log in first."})
    page.evaluate("new Promise((resolve) => setTimeout(resolve, 100))")
    assert not page.locator("#marks-log-in[open]").count()
    idle = measured.anna.tab(source)
    measured.anna.log_in("ben")
    idle.evaluate("dispatchEvent(new Event('focus'))")
    idle.wait_for_selector("#marks-message >> text=logged in as ben")
    assert idle.locator("#marks-list li").count() == count + 1  # these are still hers
    idle.close()
    press(page, "Escape", "c")
    click(page, (30, 90), (60, 90))  # its look for news is still held, so it learns of ben when it sends this
    page.wait_for_selector("#marks-message >> text=logged in as ben")
    click(page, (30, 70), (60, 70))
    assert "logged in as ben" in page.inner_text("#marks-message") and page.evaluate("marks.all().length") == count + 2
    assert not marks_of(place, "ben", source) and len(marks_of(place, "anna", source)) == count + 1
    page.close()
    measured.anna.log_in("anna")
    again = measured.anna.tab(source)
    saved(again)
    # A script that begins to listen after the last change hears of it, too.
    again.evaluate("new Promise((resolve) => outbox.on(resolve))")
    assert len(marks_of(place, "anna", source)) == count + 2
