"""A finished run comes in; MLflow runs, a version behind an alias, its ledger and its lineage go out.

Doors: address, candidates, evidence, fetching, ledger/chain, ledger/decisions, ledger/record, ledger/repair,
ledger/sentences, lineage, provenance, tracking, usable, warm_start.
"""
