"""The chapters of a dossier. Each module has `chapter(evidence)`, which reads the evidence and nothing else."""
