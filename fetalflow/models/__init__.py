"""A network's name and shape come in; an nn.Module goes out. A trained network is stored as a folder.

Doors: answering, building, familiarity, frame_weights, network_answer, package_files, parts/mask_and_label, reuse,
summary, weights.
"""
