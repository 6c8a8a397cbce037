"""When a deployment starts and what it trains on: time zones, both changes of daylight saving, nothing useless."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from fetalflow.errors import InputError
from flows import checkout, retrain
from flows.nights import schedules
from flows.nights.schedules import Timetable, plan
from flows.workspaces.workspace import prepare

NIGHT = Timetable("0 2 * * *", "Europe/Berlin")


@pytest.mark.parametrize("cron", ["0 2 * * *", "30 1 * * *"])
@pytest.mark.parametrize(
    ("zone", "change"),
    [
        ("Europe/Berlin", datetime(2027, 3, 28, tzinfo=UTC)),  # 2:00 to 3:00 is missing
        ("Europe/Berlin", datetime(2027, 10, 31, tzinfo=UTC)),  # 2:00 to 3:00 comes twice
        ("America/New_York", datetime(2027, 3, 14, tzinfo=UTC)),
        ("America/New_York", datetime(2027, 11, 7, tzinfo=UTC)),  # 1:00 to 2:00 comes twice
    ],
)
def test_each_day_has_one_start_whenever_the_server_looks(cron, zone, change):
    timetable, looks = Timetable(cron, zone), [change + timedelta(hours=hour, seconds=1) for hour in range(-24, 49, 6)]
    looks += [change + timedelta(minutes=15 * step, seconds=1) for step in range(0, 16)]  # around the change itself
    starts = {timetable.first(look).astimezone(UTC) for look in looks}
    days = Counter(start.astimezone(ZoneInfo(zone)).date() for start in starts)
    first, last = min(days), max(days)
    assert set(days.values()) == {1} and len(days) == (last - first).days + 1, sorted(starts)


def test_two_in_the_morning_is_the_hospitals_in_winter_and_in_summer():
    for look, hour in ((datetime(2027, 1, 10, tzinfo=UTC), 1), (datetime(2027, 7, 10, tzinfo=UTC), 0)):
        start = NIGHT.first(look)
        assert (start.hour, start.astimezone(UTC).hour) == (2, hour)
    assert "Europe/Berlin" in str(NIGHT) and str(Timetable("0 2 * * *")).endswith("UTC")


@pytest.mark.parametrize(
    ("cron", "zone", "message"),
    [
        ("nix", "UTC", "five fields"),
        ("0 25 * * *", "UTC", "five fields"),
        ("* * * * * *", "UTC", "five fields"),
        ("0 2 * * *", "europe/berlin", "Did you mean Europe/Berlin"),
        ("0 2 * * *", "CEST", "IANA"),
        ("0 2 * * *", "EST", "no summer time.*America/New_York"),
        ("0 2 * * *", "MST", "no summer time.*America/Denver"),
        ("0 2 * * *", "../UTC", "IANA"),
        ("0 2 * * *", "", "IANA"),
        ("0 2 * * *", "localtime", "IANA"),
        ("0 2 * * *", "UTC+2", r"or UTC\.( Did you mean (?!.*Etc/GMT).*)?$"),
        ("0 2 30 2 *", "UTC", "no year has"),
    ],
)
def test_a_wrong_schedule_is_a_message(cron, zone, message):
    with pytest.raises(InputError, match=message):
        Timetable(cron, zone)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A checkout with its settings, and no workspaces yet."""
    settings = (checkout.CHECKOUT / "params.yaml").read_bytes()
    (tmp_path / "workspaces").mkdir()
    (tmp_path / "params.yaml").write_bytes(settings)
    for module in (retrain, schedules):
        monkeypatch.setattr(module, "CHECKOUT", tmp_path)
    return tmp_path


def test_a_schedule_of_the_synthetic_hospital_is_refused_unless_it_is_wanted(place):
    with pytest.raises(InputError, match="synthetic hospital every time.*--drop DIR.*--synthetic"):
        plan(NIGHT, None)
    planned = plan(NIGHT, None, synthetic=True)
    assert [f"{each.flow}/{each.name}" for each in planned if each.timetable] == ["pipeline/workspace"]
    assert "movement: the synthetic hospital" in str(planned[0]) and "Europe/Berlin" in str(planned[0])
    assert not any(each.timetable for each in plan(None, None))


def test_a_workspace_of_the_synthetic_hospital_is_refused_as_well(place):
    with pytest.raises(InputError, match="synthetic hospital every time"):
        plan(NIGHT, None, prepare(place / "workspaces" / "demo", "movement"))


def test_the_pipeline_of_a_drop_says_the_drop(place):
    drop = {"phantoms": [], "tasks": {"planes": {"drop": "/data/hospital"}}}
    folder = prepare(place / "workspaces" / "hospital", "planes", [], [drop])
    with pytest.raises(InputError, match=f"--workspace {folder}"):
        plan(NIGHT, None)
    with pytest.raises(InputError, match="--poll looks into the inbox"):
        plan(None, NIGHT, folder)
    (scheduled,) = [each for each in plan(NIGHT, None, folder) if each.timetable]
    assert scheduled.name == "hospital" and scheduled.parameters == {"workspace": str(folder)}
    assert "planes: /data/hospital" in str(scheduled)


def test_inboxes_are_polled_where_there_are_some(place):
    with pytest.raises(InputError, match="no workspace with an inbox"):
        plan(None, NIGHT)
    inbox = "https://me:secret@store/drops"
    usual = retrain.prepare_workspace(retrain.workspace_of("planes"), "planes", inbox, None, [])
    (scheduled,) = [each for each in plan(None, NIGHT) if each.timetable]
    assert (scheduled.flow, scheduled.name) == ("retrain", "planes") and "secret" not in str(scheduled)
    assert "the deliveries in https://store/drops" in str(scheduled)
    assert [each for each in plan(None, NIGHT, usual.resolve()) if each.timetable] == [scheduled]

    other = retrain.prepare_workspace(place / "elsewhere" / "north", "planes", "in", None, [])
    planned = plan(None, NIGHT, other)
    assert [each.name for each in planned if each.timetable] == ["planes-north"]
    assert len({(each.flow, each.name) for each in planned}) == len(planned)
    with pytest.raises(InputError, match="use --poll"):
        plan(NIGHT, None, other)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("workspace", "would share the deployment pipeline/workspace. Rename"),
        ("50%", "Prefect takes no"),
        ("a&b", "no"),
    ],
)
def test_a_folder_whose_deployment_could_not_stand_beside_the_others_is_refused(place, name, message):
    drop = {"phantoms": [], "tasks": {"planes": {"drop": "/data/hospital"}}}
    with pytest.raises(InputError, match=message):
        plan(NIGHT, None, prepare(place / "workspaces" / name, "planes", [], [drop]))
