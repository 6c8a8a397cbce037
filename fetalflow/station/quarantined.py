"""The quarantine as a page shows it: with the names that pages may show, and with sentences for a browser."""

from collections.abc import Collection
from typing import Any

from fetalflow.errors import InputError
from fetalflow.hospital.drop.review import LABELLED, RELEASABLE
from fetalflow.hospital.drop.spelling import near
from fetalflow.hospital.quarantine_desk import Desk
from fetalflow.station.catalogue import REASONS_ARE_HIDDEN, Catalogue
from fetalflow.station.shown_names import ShownNames

FILTERS = ("kind", "label", "patient", "annotator", "site")
# Kinds whose reason is made of numbers and of names that the tables have; the others may quote anything of a drop.
COUNTED = {"disagreement", "truncated", "empty", "size", "huge", "short", "rate", "span"}
FACTS = (
    *("file", "source", "promised", "decoded", "frames", "height", "width", "fps", "mm_per_px", "cuts", "blanked"),
    *("held", "record"),
)
FOR_A_PAGE = {  # what the desk says to somebody at a terminal
    "give the correct label with --label": "choose the correct label",
    "leave out --label": "leave the label empty",
    "the label of --label": "the label that you choose",
    "--label ": "the label ",
}


def words(sentence: str, names: ShownNames) -> str:
    """A sentence of the desk for a page."""
    for at_terminal, at_page in FOR_A_PAGE.items():
        sentence = sentence.replace(at_terminal, at_page)
    return names.sentence(sentence)


def shown_row(row: dict[str, str], names: ShownNames) -> dict[str, Any]:
    """One row of the catalogue's table of quarantine, for JSON. video: its path in the drop; empty where the names of
    files are hidden."""
    is_hidden = names.hidden and row["kind"] not in COUNTED
    return {
        **{column: row[column] for column in ("row", "source", "start_frame", "end_frame", "kind")},
        "name": names.cine(row["video"], row["source"]) or "file not in the drop",
        "video": "" if names.hidden else row["video"],
        "patient": names.person("patient", row["patient"]),
        "site": names.place("site", row["site"]),
        "label": names.place("label", row["label"]),
        "annotator": names.person("annotator", row["annotator"]),
        "reason": REASONS_ARE_HIDDEN if is_hidden else names.sentence(row["reason"]),
        "releasable": row["kind"] in RELEASABLE,
        "labelled": row["kind"] in LABELLED,
    }


def who_decided(who: str, accounts: Collection[str], names: ShownNames) -> str:
    """Who decided: an account, or what somebody at a terminal wrote, which may name a hospital."""
    return who if who in accounts or not names.hidden else "somebody without an account"


def shown_rows(
    catalogue: Catalogue, desk: Desk, task: str, wanted: dict[str, str], video: str, accounts: Collection[str]
) -> list[dict[str, Any]]:
    """The rows that have all the values `wanted` (of FILTERS, as the page shows them), each once, with `decided`: the
    decision that the next run applies, or None. video: a pattern for the path, where paths are shown; "": any."""
    names, pending = catalogue.names, desk.pending()
    table = catalogue.quarantine(task)
    if table.empty:
        return []
    matching = None
    if video and not names.hidden:
        matching = set(desk.matching(video=video)["row"])
    found = {}
    for row in table.to_dict("records"):
        shown = shown_row(row, names)
        if all(near(shown[column]) == near(value) for column, value in wanted.items()) and (
            matching is None or row["row"] in matching
        ):
            decision = pending.get(row["row"])
            shown["decided"] = decision and {
                "decision": decision.decision,
                "who": who_decided(decision.who, accounts, names),
                "as_label": names.place("label", decision.as_label),
            }
            found.setdefault(row["row"], shown)
    return list(found.values())


def details(catalogue: Catalogue, desk: Desk, task: str, name: str, accounts: Collection[str]) -> dict[str, Any]:
    """What the desk knows of one row: row, to_do, release (what it does), facts, same_cine, decisions (oldest first).

    Raises InputError where no row has the name.
    """
    names, found = catalogue.names, desk.show(name)
    rows = {row["row"]: row for row in catalogue.quarantine(task).to_dict("records")}
    if found["row"]["row"] not in rows:
        raise InputError("the quarantine was written again in this moment: load the page again.")
    facts = found["facts"]
    return {
        "row": shown_row(rows[found["row"]["row"]], names),
        "to_do": found["to_do"],
        "release": words(found["release"], names),
        "facts": {key: facts[key] for key in FACTS if key in facts}
        | ({} if names.hidden else {key: facts[key] for key in ("remarks",) if facts.get(key)}),
        "same_cine": [shown_row(rows[row["row"]], names) for row in found["same_cine"] if row["row"] in rows],
        "decisions": [
            {key: decision[key] for key in ("time", "decision", "kind")}
            | {"as_label": names.place("label", decision["as_label"]), "why": names.sentence(decision["why"])}
            | {"who": who_decided(decision["who"], accounts, names)}
            for decision in found["decisions"]
        ],
    }
