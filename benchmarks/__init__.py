"""Measurements that take minutes to hours, one file each; `python -m benchmarks` lists them."""
