"""A finished run comes in; MLflow runs, a version behind an alias, its ledger and its lineage go out.

Doors: address, candidates, client, erasure, evidence, fetching, ledger/alias_history, ledger/chain, ledger/decisions,
ledger/files, ledger/record, ledger/repair, ledger/sentences, lineage, moved_store, old_versions, provenance,
registered_files, traces, tracking, usable, version_page, warm_start, watched.
"""
