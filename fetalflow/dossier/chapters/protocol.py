"""The modification protocol of the change plan: data management, training again, evaluation, update."""

from collections.abc import Mapping
from typing import Any

from fetalflow.dossier.change_plan import Plan
from fetalflow.dossier.chapter import Block, Heading, Table, Text, Words
from fetalflow.dossier.evidence import Evidence, Figure
from fetalflow.dossier.gathering.power import FILE as POWER
from fetalflow.dossier.gathering.promotions import FILE as PROMOTIONS
from fetalflow.dossier.plan_kept import with_defaults
from fetalflow.promotion.comparison import METRICS

SPLIT, EXTRACT, QUALITY, PARAMS, VERSION = (
    *("run/split.json", "run/extract.json", "run/quality/verdict.json"),
    *("run/params.yaml", "version.json"),
)
RULES = {  # setting of `promote`: (what it is about, what it means)
    "alpha": ("Every test", "The chance of a wrong yes is at most this, after Holm's correction."),
    "class_margin": ("Each class", "A class may lose less than this of its recall."),
    "site_margin": ("Each site", "A site may lose less than this of its accuracy."),
    "min_patients": ("Each class and site", "With fewer test patients it is not judged."),
    "max_ece": ("Calibration", "The mean error of the probabilities is at most this."),
    "max_false_alarms": ("False alarms", "At most this share of the test is called unlike the training data."),
    "max_latency_ratio": ("Time", "It takes at most this many times as long as the champion."),
    "max_latency_ms": ("Time of a first champion, ms", "It is compared with a reference network."),
    "max_size_mb": ("Size of the package, MB", "It is at most this large."),
}
GUARDS = {
    "shown": "Classes and sites: it must be shown that none of them loses its margin or more.",
    "not_refuted": "Classes and sites: one of them fails only if a loss beyond its margin is shown. A loss that the "
    "test part is too small to show passes; its interval is on the page that the approving person reads.",
}


def data_management(evidence: Evidence) -> list[Block]:
    """P1: how data are split, kept out and checked, with the figures of this run."""
    parts = [[part, evidence.figure(SPLIT, "patients", part)] for part in ("train", "validation", "test")]
    return [
        Heading("Modification protocol, P1: data management"),
        Words(
            "Deliveries come through an inbox. Each row is checked, and a row that cannot be used goes to quarantine "
            "with a reason. In a store of deliveries, a patient who was once in the test part stays there."
        ),
        Table(["Part", "Patients of this version"], parts),
        Words(("Kind of split: ", evidence.figure(SPLIT, "kind"), ". Folds: ", evidence.figure(SPLIT, "folds"), ".")),
        *_overlap(evidence),
        Words(
            (
                *("Rows delivered: ", evidence.figure(EXTRACT, "rows"), ". Rows used: "),
                *(evidence.figure(EXTRACT, "rows_used"), ". Rows in quarantine: "),
                *(evidence.figure(EXTRACT, "rows_quarantined"), "."),
            )
        ),
        *_quality(evidence),
    ]


def _overlap(evidence: Evidence) -> list[Block]:
    """Patients who are on both sides; their test says too little."""
    both = evidence.figure(SPLIT, "overlap", "train-test")
    words = [Words(("Patients in both training and test: ", both, "."), "warning" if both.value else "text")]
    if both.value:
        words.append(Words("So the test is partly of patients whom the model has seen, and is too good.", "warning"))
    return words


def _quality(evidence: Evidence) -> list[Block]:
    if not evidence.has(QUALITY):
        return [Words("The run has no verdict of the quality checks. The stage validate writes it.", "warning")]
    checks = evidence.json(QUALITY).get("expectations", [])
    failed = [each for each in checks if not each["success"]]
    critical = [each for each in failed if each["severity"] == "critical"]
    counts = [
        evidence.counted(len(checks), QUALITY, "expectations"),
        evidence.counted(len(critical), QUALITY, "expectations with success = false and severity = critical"),
        evidence.counted(len(failed) - len(critical), QUALITY, "expectations with success = false, of other severity"),
    ]
    words = ("Quality checks: ", counts[0], ". Critical ones that failed: ", counts[1], ". Warnings: ", counts[2], ".")
    return [Words(words), Words("A critical check that fails stops the run before the training.")]


def training_again(evidence: Evidence, task: str) -> list[Block]:
    """P2: what is fixed in a training, by the settings and digests of this run."""
    settings = (evidence.yaml(PARAMS) or {}).get(task) if evidence.has(PARAMS) else None
    train = settings.get("train") or {} if isinstance(settings, dict) else {}
    names = {"epochs": "Most epochs", "batch": "Sequences in a batch", "seed": "Seed", "seeds": "Seeds"}
    rows: list[list[Text]] = [
        [words, evidence.counted(_plain(train[name]), PARAMS, f"{task}/train/{name}", digits=4)]
        for name, words in names.items()
        if name in train
    ]
    tags = {"data_digest": "Digest of the data", "git_commit": "Commit of the code", "dvc_lock_digest": "Of dvc.lock"}
    rows += [[words, evidence.figure(VERSION, "run", "tags", tag)] for tag, words in tags.items()]
    return [
        Heading("Modification protocol, P2: training again"),
        Words(
            "A person, a schedule or the watch of the answers in use starts the command fetalflow retrain. It runs the "
            "recorded stages with the same settings. The result is registered as a challenger. It becomes champion "
            "only by a promotion. These values are of this version."
        ),
        Table(["Of the training", "Value"], rows),
    ]


def _plain(value: Any) -> Any:
    return value if isinstance(value, int | float | str) else ", ".join(map(str, value)) if value else None


def evaluation(
    evidence: Evidence, found: Mapping[str, Any], plan: Plan, rules: Mapping[str, Any] | None, source: str
) -> list[Block]:
    """P3: the rules of promotion, the frozen test part, and how often the rules are right."""
    blocks: list[Block] = [Heading("Modification protocol, P3: evaluation by the rules of promotion")]
    blocks += _rules(evidence, found, rules, source)
    blocks += [Heading("The test part that nobody trains on"), *_test_part(evidence, found)]
    blocks += [Heading("How often the rules are right with this test part"), *_power(evidence)]
    return blocks


def _rules(evidence: Evidence, found: Mapping[str, Any], rules: Mapping[str, Any] | None, source: str) -> list[Block]:
    if rules is None:
        return [Words(("The rules are not on record: ", evidence.figure(PROMOTIONS, "why_no_rules")), "warning")]
    blocks: list[Block] = [Words(f"The rules of the plan are those of {source}.")]
    if found["rules"] is None:
        blocks.append(Words(("Of this version's run: ", evidence.figure(PROMOTIONS, "why_no_rules")), "warning"))
    else:
        changed = sorted(name for name, value in found["rules"].items() if rules.get(name, value) != value)
        if changed:
            text = f"The settings of this version's run differ from the rules of the plan: {', '.join(changed)}."
            blocks.append(Words(text, "warning"))
    blocks.append(Words(_metric(evidence, rules)))
    blocks.append(Words(GUARDS.get(str(rules.get("guards")), "")))
    rows = [[of, _setting(evidence, name, rules), words] for name, (of, words) in RULES.items() if name in rules]
    blocks.append(Table(["Rule about", "Limit", "What it means"], rows))
    blocks.append(
        Words(
            "Further rules: every class of the champion is known; data, commit and dvc.lock are on record; the "
            "quality checks passed; no test patient and no withdrawn patient was trained on; the files are those that "
            "were registered; the ledger is intact. One failed rule keeps the champion."
        )
    )
    return blocks


def _metric(evidence: Evidence, rules: Mapping[str, Any]) -> Text:
    name = METRICS.get(str(rules.get("metric")), str(rules.get("metric")))
    if rules.get("aim") == "superiority":
        return f"The metric is the {name}. It must be shown that the challenger is better than the champion."
    margin = _setting(evidence, "margin", rules)
    return (f"The metric is the {name}. A loss against the champion of this size must be ruled out: ", margin, ".")


def _setting(evidence: Evidence, name: str, rules: Mapping[str, Any]) -> Figure:
    """A limit, from the file that holds it: the plan, a verdict, or the settings of the run."""
    value = rules[name]
    digits = 0 if isinstance(value, float) and value >= 10 else 3
    return evidence.counted(value, *_rules_file(evidence, name, rules), digits=digits)


def _rules_file(evidence: Evidence, name: str, rules: Mapping[str, Any]) -> tuple[str, str]:
    """The file of the evidence that the rules are from, and the place of a setting in it."""
    found = evidence.json(PROMOTIONS)
    for file in sorted({event["verdict"] for event in found["events"] if event["verdict"]}):
        if with_defaults(evidence.json(file).get("settings")) == rules:
            return file, f"settings/{name}"
    if found["rules"] == rules:
        return PROMOTIONS, f"rules/{name}"
    return "change_plan.yaml", f"rules/{name}, or its default"


def _test_part(evidence: Evidence, found: Mapping[str, Any]) -> list[Block]:
    version = evidence.figure(VERSION, "version").value
    judged = [event["verdict"] for event in found["events"] if event["verdict"] and event["to"] == version]
    mine = judged[-1] if judged else found["last_verdict"]
    files = [event["verdict"] for event in found["events"] if event["verdict"]]
    newest = mine or (files[-1] if files else None)
    if newest is None:
        text = (
            "No version was judged by the rules, so no verdict states a test part. The command is: fetalflow promote."
        )
        return [Words(text, "warning")]
    rows: list[list[Text]] = [
        ["Patients", evidence.figure(newest, "test", "patients")],
        ["Sequences", evidence.figure(newest, "test", "sequences")],
        ["SHA-256 of the split", evidence.figure(newest, "evidence", "split")],
        ["Digest of the data", evidence.figure(newest, "evidence", "manifest")],
    ]
    return [
        Table(
            ["Of the verdict on this version" if mine else "Of the newest verdict, on another version", "Value"], rows
        ),
        Words(
            "Both models answer the same sequences. Patients, not sequences, are the unit of every test. The test part "
            "may grow with new deliveries. A promotion is outside of the plan if a patient left it who was not "
            "withdrawn, or a sequence of another patient."
        ),
    ]


def _power(evidence: Evidence) -> list[Block]:
    if not evidence.has(POWER):
        return [Words("There is no simulation in the evidence. Write the dossier again.", "warning")]
    found = evidence.json(POWER)
    if not found["cases"]:
        why = ("The rules could not be simulated: ", evidence.figure(POWER, "why"))
        return [Words(why, "warning"), Words("Register a finished run, and write the dossier again.")]

    def of(name: str, unit: str = "") -> Figure:
        return evidence.figure(POWER, "hospital", name, unit=unit)

    rows = [
        [case, *(evidence.figure(POWER, "cases", case, name) for name in ("challenger", "promoted", "class", "site"))]
        for case in found["cases"]
    ]
    return [
        Words(
            (
                *("The rules judged synthetic test parts whose truth is known. Patients: ", of("patients")),
                *(
                    ". Sequences of a patient: ",
                    of("sequences"),
                    ". Classes: ",
                    of("classes"),
                    ". Sites: ",
                    of("sites"),
                ),
                *(". Accuracy of the champion, as of this version: ", of("accuracy")),
                *(". Draws of each case: ", evidence.figure(POWER, "runs")),
                *(". Seed: ", evidence.figure(POWER, "seed"), "."),
            )
        ),
        Table(
            ["The challenger is", "Its accuracy", "Promoted", "No class fails", "No site fails"],
            rows,
            "Shares of the draws. Promoted has the exact interval of 95 in 100.",
        ),
        Words(
            (
                "How alike the sequences of a patient are was assumed, not measured. Standard deviations, as a "
                "multiple of that of chance: ",
                *("between patients ", of("patient_sd"), ", between sequences ", of("sequence_sd")),
                *(", of how a patient suits one model ", of("model_sd"), ". "),
                "All classes are equally frequent, and all sites have equally many patients. "
                "Limits that do not depend on chance, such as size and origin, are left out.",
            )
        ),
        Words(
            (
                *("A class or a site with fewer test patients than ", evidence.figure(POWER, "rules", "min_patients")),
                " is not judged, so it cannot fail. Then the rules do not see a loss there.",
            )
        ),
        Words("An accuracy cannot rise above one, so near one a challenger is better by less than the case says."),
    ]


def update(plan: Plan) -> list[Block]:
    """P4: how a promoted version comes into use, and goes back."""
    approval = (
        "A person approves each promotion. " if plan.approval else "The plan requires no person for a promotion. "
    )
    back = "An earlier champion may come back without a new verdict. " if plan.rollback else "No rollback is planned. "
    return [
        Heading("Modification protocol, P4: update"),
        Words(
            f"{approval}An approval names the version and the digest of the evidence, which are on the page of the "
            "verdict; it holds for nothing else. Version, rules, data and registry are compared again before the move. "
            "The ledger gets a line before and a line after it."
        ),
        Words(
            f"{back}The command is fetalflow rollback --reason WHY. It is refused for a version whose files changed, "
            "or that was trained on a patient who was withdrawn since. Services use the new champion without a stop."
        ),
        Words("Whom the maker informs of an update, and how, is to be stated by the maker.", "maker"),
    ]
