"""A version that is damaged or missing stops no other task, no other version and no start."""

import asyncio

import pytest

from fetalflow.errors import InputError
from fetalflow.service import desk as desk_module
from fetalflow.service import following, unloadable
from fetalflow.service.desk import Desk, NobodyAnswers
from fetalflow.service.following import Followed
from fetalflow.service.limits import Limits
from fetalflow.service.served import EXAMINE, MEASURE, PREDICT, Job


class Pool:
    """Workers that load nothing: the version 3 is damaged."""

    opened = 0

    def __init__(self, served, *rest, **named):
        if wrong := [each.uri for each in served.values() if each.version == "3"]:
            raise InputError(f"{wrong[0]} is damaged")
        self.served = dict(served)
        Pool.opened += 1

    def submit(self, job):
        return self.served[job.task].version

    def drain(self):
        pass

    def join(self, seconds):
        pass


@pytest.fixture
def aliases(monkeypatch, packages) -> dict[tuple[str, str], str]:
    """Version by model and alias; version 9 has no files."""
    now: dict[tuple[str, str], str] = {}

    def fetch(uri):
        if uri.endswith("/9"):
            raise InputError(f"{uri} has no files")
        return uri, packages["1"]

    def version(model, alias):
        return f"models:/{model}/{now[model, alias]}" if (model, alias) in now else None

    monkeypatch.setattr(following, "version_of_alias", version)
    monkeypatch.setattr(following, "fetch_package", fetch)
    monkeypatch.setattr(desk_module, "Pool", Pool)
    return now


def followed_desk() -> Desk:
    tasks = {task: Followed(task, task, "champion", "challenger") for task in ("biometry", "movement")}
    return Desk(Limits(), tasks, record=lambda row: None)


def answering(desk: Desk) -> dict[str, str]:
    return {task: each.version for task, each in desk.served.items()}


def look(desk: Desk) -> dict[str, str]:
    asyncio.run(desk.look_again())
    return answering(desk)


@pytest.mark.parametrize(("broken", "word"), [("3", "damaged"), ("9", "no files")])
def test_one_broken_champion_holds_up_no_other_task_and_keeps_no_version_that_was_taken_back(aliases, broken, word):
    aliases.update({("movement", "champion"): "1", ("biometry", "champion"): "1"})
    (desk := followed_desk()).start()
    assert answering(desk) == {"biometry": "1", "movement": "1"} and not desk.problem
    aliases["movement", "champion"], aliases["biometry", "champion"] = broken, "2"
    assert look(desk) == {"biometry": "2", "movement": "1"}
    assert word in desk.problem and "movement" in desk.problem
    opened = Pool.opened
    assert look(desk) == {"biometry": "2", "movement": "1"} and Pool.opened == opened, "it is not tried at each look"
    assert word in desk.problem
    del aliases["biometry", "champion"]
    assert look(desk) == {"movement": "1"}
    with pytest.raises(NobodyAnswers):
        desk.submit(Job(PREDICT, "biometry", ()))
    aliases["movement", "champion"] = "2"
    assert look(desk) == {"movement": "2"} and not desk.problem
    desk.close()


@pytest.mark.parametrize(("broken", "word"), [("3", "damaged"), ("9", "no files")])
def test_a_broken_challenger_or_the_champion_of_one_task_stops_no_start(aliases, broken, word):
    aliases.update(
        {("movement", "champion"): "1", ("movement", "challenger"): broken, ("biometry", "champion"): broken}
    )
    (desk := followed_desk()).start()
    assert answering(desk) == {"movement": "1"} and not desk.in_shadow
    assert desk.problem.count(word) == 2
    aliases["movement", "champion"] = "2"
    assert look(desk) == {"movement": "2"}
    desk.close()


@pytest.mark.parametrize(("broken", "word"), [("3", "damaged"), ("9", "no files")])
def test_a_service_that_could_answer_nothing_does_not_start(aliases, broken, word):
    aliases["movement", "champion"] = broken
    with pytest.raises(InputError, match=word):
        followed_desk().start()


def test_a_version_that_is_taken_back_answers_no_more_while_the_workers_without_it_start(aliases, monkeypatch):
    aliases.update({("movement", "champion"): "1", ("biometry", "champion"): "1"})
    (desk := followed_desk()).start()
    del aliases["biometry", "champion"]
    seen, renewed = [], Desk._renewed

    def slow(self, *how):
        seen.append(answering(self))
        for verb in (MEASURE, EXAMINE):
            with pytest.raises(NobodyAnswers):
                self.submit(Job(verb, "biometry", ()))
        return renewed(self, *how)

    with monkeypatch.context() as patch:
        patch.setattr(Desk, "_renewed", slow)
        assert look(desk) == seen[0] == {"movement": "1"}
    aliases["biometry", "champion"] = "2"
    assert look(desk) == {"biometry": "2", "movement": "1"}
    desk.close()


def test_files_that_were_restored_are_found(aliases, monkeypatch):
    aliases["movement", "champion"] = "1"
    (desk := followed_desk()).start()
    aliases["movement", "champion"] = "3"
    assert look(desk) == {"movement": "1"}
    monkeypatch.setattr(unloadable, "RETRY_S", 0)
    monkeypatch.setattr(Pool, "__init__", lambda self, served, *rest, **named: setattr(self, "served", dict(served)))
    assert look(desk) == {"movement": "3"} and not desk.problem
    desk.close()


def test_the_planes_in_use_help_a_challenger_of_biometry_to_examine_and_are_not_in_shadow(aliases):
    tasks = {task: Followed(task, task, "champion", "challenger") for task in ("biometry", "planes")}
    aliases.update({(task, "champion"): "1" for task in tasks} | {("biometry", "challenger"): "2"})
    (desk := Desk(Limits(), tasks, record=lambda row: None)).start()
    assert {task: each.version for task, each in desk.shadow_pool.served.items()} == {"planes": "1", "biometry": "2"}
    assert list(desk.in_shadow) == ["biometry"]
    del aliases["biometry", "challenger"]
    look(desk)
    assert desk.shadow_pool is None
    desk.close()


def test_without_a_log_nobody_is_in_shadow(aliases):
    aliases.update({("movement", "champion"): "1", ("movement", "challenger"): "2"})
    (desk := Desk(Limits(), {"movement": Followed("movement", "movement", "champion", "challenger")})).start()
    assert answering(desk) == {"movement": "1"} and desk.shadow_pool is None
    desk.close()
