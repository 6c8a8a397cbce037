"""The quality gate: Great Expectations checks the tables, and every failed check names the rows."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fetalflow.errors import InputError
from fetalflow.hospital.drop.unknown_patients import count_unknown
from fetalflow.quality import evidence
from fetalflow.quality.check import ROW_KEYS, Check
from fetalflow.quality.mask_checks import mask_changes
from fetalflow.quality.pages import make_offline, write_index

SHOWN = 10  # rows that a failed check lists


def build_tables(
    manifest: pd.DataFrame,
    split: pd.DataFrame,
    root: Path,
    labels: tuple[str, ...] | None,
    size: int,
    near_duplicate_bits: int,
) -> dict[str, pd.DataFrame]:
    """The tables that the checks need, by the names in ROW_KEYS. root: folder of the paths in `manifest.path`."""
    rows = evidence.rows_table(manifest, root, size, near_duplicate_bits)
    return {
        "columns": evidence.columns_table(manifest),
        "rows": rows,
        "classes": evidence.classes_table(rows, labels),
        "people": evidence.people_table(rows, count_unknown(manifest)),
        "members": evidence.members_table(rows, split),
        "patients": evidence.patients_table(split),
        "parts": evidence.parts_table(split),
    }


def warning_names(checks: Sequence[Check], warn_only: Sequence[str]) -> set[str]:
    """Names of the checks whose failure is only a warning.

    Raises InputError when `warn_only` names a check that does not exist.
    """
    names = [check.name for check in checks]
    if unknown := sorted(set(warn_only) - set(names)):
        raise InputError(
            f"`validate.warn_only`: there is no check {', '.join(unknown)}; the checks are: {', '.join(names)}."
        )
    return {check.name for check in checks if check.warns or check.name in warn_only}


def run_checks(
    task: str,
    tables: Mapping[str, pd.DataFrame],
    checks: Sequence[Check],
    warn_only: Sequence[str],
    folder: Path | None = None,
) -> dict[str, Any]:
    """Run all checks. With `folder`, the pages of Great Expectations and an index are written there; they work offline.

    Returns {"success": no critical check failed, "task", "expectations": [{name, suite, success, severity (critical or
    warning), expected, found, advice, n_rows, rows (at most SHOWN lines)}], "masks": what was done to masks, with
    counts}. The same tables give the same result.
    """
    warning = warning_names(checks, warn_only)
    context, gx = _quiet_context(folder)
    source = context.data_sources.add_pandas(task)
    verdicts: dict[str, dict[str, Any]] = {}
    for suite, table in dict.fromkeys((check.suite, check.table) for check in checks):
        group = [check for check in checks if (check.suite, check.table) == (suite, table)]
        name = f"{suite}-{table}"
        expectations = [
            getattr(gx.expectations, check.type)(
                **check.arguments,
                severity="warning" if check.name in warning else "critical",
                meta={"name": check.name},
                description=f"{check.name}: {check.expected}",
            )
            for check in group
        ]
        validation = gx.ValidationDefinition(
            name=name,
            data=source.add_dataframe_asset(name).add_batch_definition_whole_dataframe("all"),
            suite=context.suites.add(gx.ExpectationSuite(name=name, expectations=expectations)),
        )
        results = context.validation_definitions.add(validation).run(
            # Great Expectations copies the rows for each check: without the other columns, the copy is small.
            batch_parameters={"dataframe": tables[table][_columns(group)]},
            result_format={"result_format": "COMPLETE", "unexpected_index_column_names": ROW_KEYS[table]},
        )
        by_name = {result.expectation_config.meta["name"]: result for result in results.results}
        for check in group:
            verdicts[check.name] = _verdict(check, by_name[check.name], tables[table], check.name in warning)
    ordered = [verdicts[check.name] for check in checks]
    success = all(v["success"] or v["severity"] == "warning" for v in ordered)
    masks = mask_changes(tables["rows"]) if "rows" in tables else {}
    verdict = {"success": success, "task": task, "expectations": ordered, "masks": masks}
    if folder is not None:
        context.build_data_docs()
        make_offline(folder)
        write_index(folder, verdict)
    return verdict


def _columns(group: Sequence[Check]) -> list[str]:
    """The columns of a table that its checks read."""
    names = ("column", "column_A", "column_B")
    read = [check.arguments[name] for check in group for name in names if name in check.arguments]
    return list(dict.fromkeys([*ROW_KEYS[group[0].table], *read]))


def failure_lines(expectation: Mapping[str, Any]) -> str:
    """A failed check as text: name, expected, found, rows, what to do."""
    word = "WARNING" if expectation["severity"] == "warning" else "FAILED"
    lines = [f"{word} {expectation['name']} ({expectation['suite']})"]
    lines += [f"  expected: {expectation['expected']}", f"  found: {expectation['found']}"]
    lines += [f"    {row}" for row in expectation["rows"]]
    if (more := expectation["n_rows"] - len(expectation["rows"])) > 0:
        lines.append(f"    and {more} more")
    return "\n".join([*lines, f"  what to do: {expectation['advice']}"])


def stop_if_failed(verdict: Mapping[str, Any], folder: Path) -> None:
    """Raises InputError with the critical checks that failed and what to do about each."""
    failed = [e for e in verdict["expectations"] if not e["success"] and e["severity"] == "critical"]
    if failed:
        raise InputError(
            f"{len(failed)} of {len(verdict['expectations'])} quality checks failed:\n"
            + "\n".join(f"  {e['name']}: {e['found']}. {e['advice']}" for e in failed)
            + f"\nThe rows are named above, in {folder / 'verdict.json'} and in {folder / 'index.html'}. To go on "
            + f"although checks fail, add --set TASK.validate.warn_only=[{','.join(e['name'] for e in failed)}]."
        )


def _quiet_context(folder: Path | None) -> tuple[Any, Any]:
    # Great Expectations reads this when it is imported: it then sends no usage statistics.
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    for site in list(context.list_data_docs_sites()):
        context.delete_data_docs_site(site)
    if folder is None:
        return context, gx
    store = {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(folder.resolve())}
    index = {"class_name": "DefaultSiteIndexBuilder"}
    config = {"class_name": "SiteBuilder", "site_index_builder": index, "store_backend": store}
    context.add_data_docs_site("quality", {**config, "show_how_to_buttons": False})
    return context, gx


def _verdict(check: Check, result: Any, table: pd.DataFrame, warns: bool) -> dict[str, Any]:
    rows = [_row(found, check) for found in result.result.get("unexpected_index_list") or []]
    return {
        "name": check.name,
        "suite": check.suite,
        "success": bool(result.success),
        "severity": "warning" if warns else "critical",
        "expected": check.expected,
        "found": _found(check, result, table, len(rows)),
        "advice": check.advice,
        "n_rows": len(rows),
        "rows": rows[:SHOWN],
    }


def _found(check: Check, result: Any, table: pd.DataFrame, failing: int) -> str:
    names = {
        "rows": "sequences",
        "classes": "labels",
        "parts": "labels",
        "members": "rows of the split",
        "people": "drop",
    }
    rows = f"{len(table)} {names.get(check.table, check.table)}"
    if failing:
        found = f"{failing} of {rows} {check.failing}"
        if result.success:
            found += f"; {1 - check.arguments['mostly']:.0%} may fail"
    elif not result.success:
        return f"the check could not run ({_exception(result.exception_info)})"
    else:
        found = f"all {rows} pass"
    if check.type != "ExpectColumnValuesToBeBetween":
        return found
    column = check.arguments["column"]
    values = table[column].dropna()
    if values.empty:
        return f"{column} is not known for any of {rows}"
    known = "" if len(values) == len(table) else f", known for {len(values)}"
    return f"{found}; {column} is {values.min():.4g} to {values.max():.4g}{known}"


def _row(found: Mapping[str, Any], check: Check) -> str:
    key = ", ".join(f"{column} {_plain(found.get(column))}" for column in ROW_KEYS[check.table])
    values = ", ".join(f"{c} {_plain(v)}" for c, v in found.items() if c not in ROW_KEYS[check.table])
    return f"{key}: {values}" if values else key


def _plain(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float | np.floating) and value % 1 else str(value).removesuffix(".0")


def _exception(info: Mapping[str, Any]) -> str:
    found = [info, *(value for value in info.values() if isinstance(value, Mapping))]
    return (
        "; ".join(str(part["exception_message"]) for part in found if part.get("exception_message"))
        or "no reason given"
    )
