"""`params.yaml` as frozen pydantic models. An unknown key is an error."""

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from fetalflow.errors import InputError
from fetalflow.settings.blocks import (
    Evaluate,
    Explain,
    Export,
    Extract,
    Phantom,
    Preprocess,
    Pretrain,
    Significance,
    Split,
    Train,
    Validate,
)
from fetalflow.settings.earlier import renewed
from fetalflow.settings.node import Node
from fetalflow.settings.operations import Alerts, Clean, Drift, Frozen, Promote, Register, Requests, Retrain
from fetalflow.settings.watch import Watch

Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the one in C takes a tenth of the time


class Variant(Frozen):
    """One network that a task trains: the main variant, or a rival that it is compared with."""

    task: str
    variant: str  # name in files, tables and the report
    network: str  # name of its file in fetalflow/models/<task>/
    base: str  # file or folder of fetalflow/models/ that the network's file imports; without one, that file again
    options: dict[str, Any] = {}  # arguments of the network's `build`


class TaskEntry(Variant):
    """The main variant of a task, and its drop."""

    drop: str  # folder with the cines and their table


class Pretraining(Variant):
    """The main variant of a task that is pretrained, and the folder of the unlabelled files."""

    folder: str


class TaskSettings(Frozen):
    phantom: Phantom
    extract: Extract
    preprocess: Preprocess
    split: Split
    validation: Validate = Field(alias="validate")
    pretrain: Pretrain = Pretrain()
    train: Train
    rivals: dict[str, Variant] = {}  # by `TASK-VARIANT`, in the order of the report
    export: Export = Export()
    evaluate: Evaluate = Evaluate()
    significance: Significance = Significance()
    explain: Explain = Explain()
    register_: Register = Field(alias="register")
    promote: Promote = Promote()
    retrain: Retrain = Retrain()
    drift: Drift = Drift()
    requests: Requests = Requests()
    alerts: Alerts = Alerts()
    clean: Clean = Clean()


class Machines(Frozen):
    """Where the work runs (docs/operator/scale.md). No stage depends on it: a change makes no result out of date."""

    scheduler: str = ""  # Dask scheduler for extract and preprocess, such as tcp://host:8786; empty: this machine only
    processes: int = Field(1, ge=1, le=1024)  # processes of one training on each node; with GPUs, one per GPU
    nodes: int = Field(1, ge=1, le=10_000)  # nodes (machines) of one training
    # Trainings of a task at the same time on this machine. auto: 2 if they are small and run on a CPU, else 1.
    trainings: Annotated[int, Field(ge=1, le=1024)] | Literal["auto"] = "auto"

    @property
    def trainers(self) -> int:
        return self.processes * self.nodes


class Settings(Frozen):
    """The whole of `params.yaml`. `blocks` holds the per-task settings by task name."""

    tasks: dict[str, TaskEntry]
    phantoms: tuple[str, ...]  # tasks whose drop the synthetic hospital makes
    ablations: dict[str, Variant] = {}  # the rivals of all tasks together: dvc.yaml needs them in one mapping
    pretrainings: dict[str, Pretraining] = {}  # by task, those with a `pretrain.folder`: dvc.yaml needs one mapping
    machines: Machines = Machines()
    node: Node = Node()
    watch: Watch = Watch()
    profiles: dict[str, dict[str, Any]] = {}  # by name: changes to the other settings
    blocks: dict[str, TaskSettings]

    @model_validator(mode="before")
    @classmethod
    def _gather_blocks(cls, raw: dict[str, Any]) -> dict[str, Any]:
        tasks = raw.get("tasks") or {}
        return {k: v for k, v in raw.items() if k not in tasks} | {"blocks": {t: raw[t] for t in tasks if t in raw}}

    @model_validator(mode="after")
    def _every_task_has_a_block(self) -> "Settings":
        if missing := set(self.tasks) - set(self.blocks):
            raise ValueError(f"tasks without a block of settings: {sorted(missing)}")
        return self

    @model_validator(mode="after")
    def _ablations_repeat_the_rivals(self) -> "Settings":
        rivals = {name: rival for block in self.blocks.values() for name, rival in block.rivals.items()}
        if self.ablations != rivals:
            differing = sorted(n for n in {*rivals, *self.ablations} if rivals.get(n) != self.ablations.get(n))
            raise ValueError(f"`ablations` must repeat the `rivals` of every task; they differ in {differing}")
        return self

    @model_validator(mode="after")
    def _pretrainings_follow_from_the_folders(self) -> "Settings":
        wanted = {
            task: Pretraining(**self.tasks[task].model_dump(exclude={"drop"}), folder=block.pretrain.folder)
            for task, block in self.blocks.items()
            if task in self.tasks and block.pretrain.folder
        }
        if self.pretrainings != wanted:
            expected = {task: each.model_dump() for task, each in wanted.items()}
            raise ValueError(f"`pretrainings` must repeat every `TASK.pretrain.folder`; expected {expected}")
        return self

    @model_validator(mode="after")
    def _variant_names_fit(self) -> "Settings":
        for task, block in self.blocks.items():
            wrong = [n for n, rival in block.rivals.items() if (n, rival.task) != (f"{task}-{rival.variant}", task)]
            if wrong:
                raise ValueError(f"{task}.rivals: expected the names {task}-VARIANT and `task: {task}`, found {wrong}")
            if self.tasks[task].task != task:
                raise ValueError(f"tasks.{task}.task is {self.tasks[task].task!r}, expected {task!r}")
            if self.tasks[task].variant in [rival.variant for rival in block.rivals.values()]:
                raise ValueError(f"{task} has {self.tasks[task].variant!r} as its main variant and among its rivals")
        return self

    @model_validator(mode="after")
    def _rules_of_the_node_fit(self) -> "Settings":
        """A workspace of one task may have rules of others; the node refuses them where it is started there."""
        for number, rule in enumerate(self.node.rules):
            known = self.blocks[rule.task].extract.labels if rule.task in self.blocks else None
            if known is not None and (unknown := sorted({*rule.labels} - {*known})):
                raise ValueError(
                    f"node.rules.{number}.labels has {unknown}, expected labels of {rule.task}: {[*known]}"
                )
        return self

    def block(self, task: str) -> TaskSettings:
        """The settings of a task. Raises InputError naming the tasks."""
        if task not in self.blocks:
            raise InputError(f"params.yaml has no task {task!r}. Its tasks: {', '.join(self.blocks)}.")
        return self.blocks[task]

    def variants(self, task: str) -> tuple[str, ...]:
        """The names of a task's variants: the main one first, then its rivals."""
        return tuple(each.variant for each in self._all(task))

    def variant(self, task: str, name: str) -> Variant:
        """The variant called `name`. Raises InputError naming the variants of the task."""
        for each in self._all(task):
            if each.variant == name:
                return each
        known = ", ".join(self.variants(task))
        raise InputError(f"{task} has no variant {name!r} in params.yaml; it has: {known}.")

    def _all(self, task: str) -> tuple[Variant, ...]:
        return (self.tasks[task], *self.blocks[task].rivals.values())


EXPECTED = {  # by the kind of pydantic's error, or how it begins: what was expected
    "extra_forbidden": "there is no such setting; `fetalflow settings` lists all of them",
    "missing": "it is missing",
    "int": "expected a whole number",
    "float": "expected a number",
    "finite": "expected a number",
    "bool": "expected true or false",
    "string": "expected a text",
    "tuple": "expected a list, such as [a, b]",
    "list": "expected a list, such as [a, b]",
    "dict": "expected a block of settings",
    "model": "expected a block of settings",
    "greater_than_equal": "expected at least {ge}",
    "greater_than": "expected more than {gt}",
    "less_than_equal": "expected at most {le}",
    "less_than": "expected less than {lt}",
    "literal_error": "expected {expected}",
    "too_short": "expected at least {min_length} value",
}


KIND = re.compile(r"(constrained-)?(int|float|str|bool)|literal\[.*")  # which of several types, in pydantic's places


def _in_words(faults: Sequence[Mapping[str, Any]]) -> str:
    """A line for each wrong setting: its key, what was expected, and what was found. faults: from pydantic."""
    expected, found = defaultdict(list), {}
    for fault in faults:
        *place, last = fault["loc"] or ("",)
        key = ".".join(map(str, place if KIND.fullmatch(str(last)) else [*place, last])).removeprefix("blocks.")
        if key.startswith("ablations."):
            continue  # it repeats the rivals
        kind, value = fault["type"], fault["input"]
        known = next((words for start, words in EXPECTED.items() if kind == start or kind.startswith(f"{start}_")), "")
        words = known.format(**fault.get("ctx", {})) or fault["msg"].removeprefix("Value error, ")
        expected[key].append(words)
        if kind not in ("extra_forbidden", "missing") and not isinstance(value, dict):
            found[key] = f"; found {json.dumps(value, ensure_ascii=False, default=str)}"
    lines = {key: f"{' or '.join(dict.fromkeys(words))}{found.get(key, '')}" for key, words in expected.items()}
    return "\n".join(f"  {key}: {line}" if key else f"  {line}" for key, line in lines.items())


def load_settings(path: Path | str = "params.yaml") -> Settings:
    """Read and check `params.yaml`.

    Raises InputError when the file does not exist, or with a list of the wrong keys.
    """
    if not Path(path).is_file():
        raise InputError(f"{Path(path).resolve()} does not exist: run this in the checkout or in a workspace.")
    try:
        params = yaml.load(Path(path).read_text(encoding="utf-8"), Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not YAML in UTF-8: {' '.join(str(error).split())}") from None
    return checked(params, path)


def checked(params: dict[str, Any], path: Path | str) -> Settings:
    """`params` as settings. Raises InputError with a list of the wrong keys; `path` is only for the message."""
    try:
        return Settings.model_validate(renewed(params))
    except ValidationError as error:
        place = path if Path(path).is_file() else "With these changes params.yaml"
        raise InputError(f"{place} has wrong settings:\n{_in_words(error.errors())}") from None
    except (AttributeError, KeyError, TypeError):  # a value stands where a block of settings is expected
        raise InputError(f"{path} has not the form of the checkout's params.yaml. Compare the two.") from None
