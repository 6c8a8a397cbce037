"""The calls of MLflow that the ledger and the lineage need, with a client that `fetalflow.registry.tracking` opens.

The lines of the ledger are the parameters of one run, `line.000001` and so on. MLflow has no call that edits or deletes
a parameter, and if two writers log the same name, the database refuses the second. So appending is atomic and can be
repeated, both in the embedded store and on a server, and fetalflow needs no lock.
"""

import re
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from fetalflow.errors import InputError
from fetalflow.registry.file_digests import digests_in, digests_one_by_one, paths_in

LEDGER = "fetalflow-ledger"  # the experiment that holds the run of the ledger
RUN_TAG = "fetalflow.ledger.run"
MARK_TAG = "fetalflow.ledger.mark"  # tag of a registered model: number and hash of its last line in the ledger
LINE = re.compile(r"line\.(\d{6}|[1-9]\d{6,})", re.ASCII)  # the only names that a line can have
VIEW_ALL = 3  # MLflow's ViewType.ALL: includes what was deleted
PAGE = 500  # results per request


class Registry:
    """failure: MLflow's exception. artefacts: URI where the embedded store keeps artefacts, None with a server.
    repository: opens the artefacts of a URI. ledger_run: id of the run of the ledger, "" where it is not
    known outside of the registry; run_is_fixed: ledger.json names it."""

    def __init__(
        self,
        client: Any,
        failure: type[Exception],
        artefacts: str | None,
        repository: Callable[[str], Any] | None = None,
        ledger_run: str = "",
        run_is_fixed: bool = False,
    ) -> None:
        self.client, self.failure, self.artefacts, self.repository = client, failure, artefacts, repository
        self.ledger_run, self.run_is_fixed = ledger_run, run_is_fixed
        self._in_use: set[str] = set()  # experiments of the ledger that are not deleted

    def models(self) -> tuple[dict[str, dict[str, str]], dict[str, str | None]]:
        """(aliases, marks), both by model: alias to version; the ledger's mark of the model, None without one."""
        aliases, marks = {}, {}
        for model in _pages(self.client.search_registered_models):
            aliases[model.name] = {alias: str(version) for alias, version in model.aliases.items()}
            marks[model.name] = model.tags.get(MARK_TAG)
        return aliases, marks

    def aliases(self, model: str) -> dict[str, str]:
        """Alias to version. Raises InputError if there is no such model."""
        found = self._or_input_error(self.client.get_registered_model, model, f"no model {model!r} is registered")
        return {alias: str(version) for alias, version in found.aliases.items()}

    def require_version(self, model: str, version: str) -> None:
        def get(name: str) -> Any:
            return self.client.get_model_version(name, version)

        self._or_input_error(get, model, f"model {model!r} has no version {version}")

    def set_alias(self, model: str, alias: str, version: str | None) -> None:
        """Set an alias; version None removes it."""
        if version is None:
            self.client.delete_registered_model_alias(model, alias)
        else:
            self.client.set_registered_model_alias(model, alias, version)

    def set_mark(self, model: str, mark: str) -> None:
        self.client.set_registered_model_tag(model, MARK_TAG, mark)

    def remove_mark(self, model: str) -> None:
        self.client.delete_registered_model_tag(model, MARK_TAG)

    def has_model(self, model: str) -> bool:
        return any(each.name == model for each in _pages(self.client.search_registered_models))

    def versions(self, model: str) -> list[Any]:
        """Every version of a model, with its source and its run; none if there is no such model."""
        return list(_pages(self.client.search_model_versions, filter_string=f"name = '{model}'"))

    def has_version(self, model: str, version: str) -> bool:
        try:
            self.require_version(model, version)
        except InputError:
            return False
        return True

    def run_of(self, model: str, version: str) -> str:
        """The run that a version was made by; empty if it names none."""
        return self.client.get_model_version(model, version).run_id or ""

    def version_files(self, model: str, version: str) -> dict[str, str]:
        """SHA-256 by path of the files of a version; empty if there are none. From a server every byte is read, because
        no digest that the server states would show a forgery; one file at a time is on this machine."""
        uri = self.client.get_model_version_download_uri(model, version)
        parts = urlsplit(uri)
        if parts.scheme in ("file", ""):
            return digests_in(Path(url2pathname(parts.path)))
        return digests_one_by_one(self.repository(uri))

    def files_of(self, run: str, folder: str) -> dict[str, str]:
        """SHA-256 by path of the files in a folder of a run's artefacts; empty if there is no such folder or run."""
        try:
            if (place := self.local_artefacts(run)) is not None:
                return digests_in(place / folder)
            found = digests_one_by_one(self._artefacts_of(run), folder)
            return {path.removeprefix(f"{folder}/"): digest for path, digest in found.items()}
        except self.failure as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return {}

    def ledger(self) -> tuple[str | None, dict[int, str], list[str]]:
        """(run, lines, others): the run of the ledger, None if there is none yet; the text of every line by its number;
        the names of all other parameters of the run."""
        run = self._ledger(begin=False)
        if run is None:
            return None, {}, []
        parameters = run.data.params
        lines = {int(key[5:]): text for key, text in parameters.items() if LINE.fullmatch(key)}
        return run.info.run_id, lines, sorted(key for key in parameters if not LINE.fullmatch(key))

    def lines(self) -> dict[int, str]:
        """The text of every line of the ledger by its number; empty if there is no ledger yet."""
        return self.ledger()[1]

    def tagged_run(self) -> str | None:
        """The run that the experiment of the ledger names by a tag, which every writer can change."""
        found = self.client.get_experiment_by_name(LEDGER)
        return None if found is None else found.tags.get(RUN_TAG)

    def set_tagged_run(self, run: str) -> None:
        """Name the run of the ledger by the tag, and call its experiment as it must be called."""
        experiment = self.client.get_run(run).info.experiment_id
        if self.client.get_experiment_by_name(LEDGER) is None:
            self.client.rename_experiment(experiment, LEDGER)
        self.client.set_experiment_tag(self.client.get_experiment_by_name(LEDGER).experiment_id, RUN_TAG, run)

    def add_line(self, number: int, text: str) -> bool:
        """Append a line; False if another writer used this number first."""
        run = self._ledger(begin=True).info.run_id
        try:
            self.client.log_param(run, f"line.{number:06d}", text, synchronous=True)
        except self.failure as error:
            if error.error_code != "INVALID_PARAMETER_VALUE" or number not in self.lines():
                raise
            return False
        return True

    def pipeline_runs(self) -> list[Any]:
        """The parent run of every logged pipeline, in all experiments, oldest first; deleted runs are included."""
        experiments = [e.experiment_id for e in _pages(self.client.search_experiments, view_type=VIEW_ALL)]
        wanted = {
            "experiment_ids": experiments,
            "filter_string": "tags.data_digest LIKE '%'",
            "run_view_type": VIEW_ALL,
        }
        runs = _pages(self.client.search_runs, **wanted) if experiments else ()
        found = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
        return sorted(found, key=lambda run: run.info.start_time)

    def variants(self, run: Any) -> dict[str, str]:
        """Variant to the id of its child run of a pipeline's run."""
        parent = f"tags.`mlflow.parentRunId` = '{run.info.run_id}'"
        wanted = {"experiment_ids": [run.info.experiment_id], "filter_string": parent, "run_view_type": VIEW_ALL}
        children = list(_pages(self.client.search_runs, **wanted))
        return {child.data.tags.get("variant", ""): child.info.run_id for child in reversed(children)}

    def versions_of(self, run: str) -> list[tuple[str, str]]:
        """(model, version) of every model version that was registered from a run."""
        found = _pages(self.client.search_model_versions, filter_string=f"run_id = '{run}'")
        return sorted((version.name, str(version.version)) for version in found)

    def folders(self, run: str, path: str) -> list[str]:
        """The folders inside a folder of a run's artefacts; empty if there is no such folder."""
        return [entry.path for entry in self.client.list_artifacts(run, path) if entry.is_dir]

    def artefact_paths(self, run: str, folder: str = "") -> Iterator[str]:
        """The paths of all files in a folder of a run's artefacts, or of all."""
        yield from paths_in(partial(self.client.list_artifacts, run), folder or None)

    def local_artefacts(self, run: str) -> Path | None:
        """The folder of a run's artefacts in an embedded store; None on a server."""
        if self.artefacts is None:
            return None
        parts = urlsplit(self.client.get_run(run).info.artifact_uri)
        return Path(url2pathname(parts.path)) if parts.scheme == "file" else None

    def remove_artefact(self, run: str, path: str) -> None:
        """Remove a file of a run's artefacts. MLflow's client has no public call for it; `mlflow gc` uses this one."""
        self._artefacts_of(run).delete_artifacts(path)

    def _artefacts_of(self, run: str) -> Any:
        """MLflow's repository of a run's artefacts."""
        return self.client._tracking_client._get_artifact_repo(run)

    @property
    def can_purge(self) -> bool:
        """Whether this is a database itself: MLflow's server has no call that removes what was deleted for ever."""
        return hasattr(self.client._tracking_client.store, "_hard_delete_run")

    def purge_run(self, run: str) -> None:
        """Remove a deleted run for ever, as `mlflow gc` does. That command would also remove everything else that is
        deleted, such as an experiment that a person can restore."""
        self.client._tracking_client._get_artifact_repo(run).delete_artifacts()
        self.client._tracking_client.store._hard_delete_run(run)

    def purge_model(self, model: str, place: str) -> None:
        """Remove a deleted logged model for ever, with its files in `place`."""
        shutil.rmtree(Path(url2pathname(urlsplit(place).path)), ignore_errors=True)
        self.client._tracking_client.store._hard_delete_logged_model(model)

    def artefact(self, run: str, path: str) -> str | None:
        """The text of a run's artefact; None if the run has no such artefact."""
        folder = path.rpartition("/")[0]
        if path not in {entry.path for entry in self.client.list_artifacts(run, folder)}:
            return None
        with tempfile.TemporaryDirectory() as scratch:
            return Path(self.client.download_artifacts(run, path, scratch)).read_text(encoding="utf-8")

    def _ledger(self, begin: bool) -> Any | None:
        """The run that holds the ledger, with its parameters: the one that is known outside of the registry, or else
        the one of the tag. With `begin` it is made if there is none."""
        run = self._known_run() or self._run_by_tag(begin)
        if run is None:
            return None
        experiment = run.info.experiment_id
        if experiment not in self._in_use:  # requested once only, because a move reads the ledger ten times
            if self.client.get_experiment(experiment).lifecycle_stage == "deleted":
                raise InputError(
                    f"the ledger's experiment was deleted. Restore it: mlflow experiments restore -x {experiment}"
                )
            self._in_use.add(experiment)
        if run.info.lifecycle_stage == "deleted":
            raise InputError(
                f"the ledger's run was deleted. Restore it: mlflow runs restore --run-id {run.info.run_id}"
            )
        return run

    def _known_run(self) -> Any | None:
        if not self.ledger_run:
            return None
        try:
            return self.client.get_run(self.ledger_run)
        except self.failure as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
        if self.run_is_fixed:
            raise InputError(
                f"ledger.json names the run {self.ledger_run}, and this registry does not have it. Check "
                "MLFLOW_TRACKING_URI, or restore the registry's database; for a new registry, make a new ledger.json."
            )
        return None  # the store was replaced: `verify` says so, because the exported heads are not in the new ledger

    def _run_by_tag(self, begin: bool) -> Any | None:
        """To make the run, an experiment of another name is made first and then renamed, so that only one of several
        writers succeeds."""
        found = self.client.get_experiment_by_name(LEDGER)
        if found is None and begin:
            mine = self.client.create_experiment(f"{LEDGER}-{uuid.uuid4().hex}", self.artefacts)
            run = self.client.create_run(mine, run_name="ledger").info.run_id
            self.client.set_terminated(run)  # an ended run accepts parameters, an open one shows "Running" for ever
            self.client.set_experiment_tag(mine, RUN_TAG, run)
            try:
                self.client.rename_experiment(mine, LEDGER)
            except self.failure:
                self.client.delete_experiment(mine)
                if self.client.get_experiment_by_name(LEDGER) is None:
                    raise
            found = self.client.get_experiment_by_name(LEDGER)
        if found is None:
            return None
        run = found.tags.get(RUN_TAG)
        if run is None:
            raise InputError(f"the MLflow experiment {LEDGER!r} does not say which run is the ledger ({RUN_TAG}).")
        return self.client.get_run(run)

    def _or_input_error(self, call: Any, model: str, message: str) -> Any:
        try:
            return call(model)
        except self.failure as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise InputError(f"{message} in this registry.") from None
            raise


def _pages(search: Any, **wanted: Any) -> Iterator[Any]:
    token = None
    while True:
        page = search(max_results=PAGE, page_token=token, **wanted)
        yield from page
        token = page.token
        if not token:
            return
