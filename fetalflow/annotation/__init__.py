"""What annotators mark on cines and stills comes in; spans, outlines, lengths and corrections of a drop go out.

Doors: adjudication, agreement, annotation, checking, corrections, drop, exchange/folder, exchange/marked, journal,
next_cines, patients, rows, shapes, standing, studies.
"""
