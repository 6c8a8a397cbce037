"""A browser's request comes in, a page of the review station goes out: look at cines, label, decide, correct.

Doors: accounts, app, catalogue, delivery, exchanged, labelled, place, rates.
"""
