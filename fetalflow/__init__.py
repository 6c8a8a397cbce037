"""The library: a hospital's cines in, a registered, explained model out. Knows neither DVC nor Prefect.

The rooms in the order in which the data flow: settings, hospital, cine, sequences, quality, models, training, biometry,
evaluation, inference, report, registry, promotion.
"""
