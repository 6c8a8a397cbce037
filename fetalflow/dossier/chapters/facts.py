"""Model facts and card: what it is for, what goes in and out, how good it is, where it fails."""

from fetalflow.dossier.chapter import Chapter, Heading, Table
from fetalflow.dossier.evidence import Evidence
from fetalflow.dossier.gathering.registered import VERSION
from fetalflow.dossier.statements import stated


def chapter(evidence: Evidence) -> Chapter:
    variant = evidence.json(VERSION)["variant"]
    accuracy = evidence.figure("run/metrics.json", variant, "accuracy")
    blocks = [
        stated(evidence, "intended_use"),
        Heading("Performance"),
        Table(["figure", "value"], [["accuracy", accuracy]]),
    ]
    return Chapter("facts", "Model facts and card", tuple(blocks))
