"""Predictions come in; metrics with intervals, and tests between models, go out.

Doors: agreement, calibration, certainty/fitting, certainty/record, certainty/seen, equal_labels, holm, intervals,
lengths, measurement_columns, measurement_rows, measurement_scores, metrics, paired, predictions, scoring,
segmentation, significance, slices.
"""
