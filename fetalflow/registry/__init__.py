"""A finished run comes in; MLflow runs, a version behind an alias, its ledger and its lineage go out.

Doors: address, candidates, fetching, ledger/chain, ledger/decisions, ledger/record, lineage, provenance, tracking,
warm_start.
"""
