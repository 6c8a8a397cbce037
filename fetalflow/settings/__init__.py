"""`params.yaml` comes in; one checked, frozen block of settings per stage goes out.

Doors: earlier, node, params, tasks, watch.
"""
