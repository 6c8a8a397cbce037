"""The files of one examination come in; planes, lengths, age, weight and movement go out, as one result and one page.

Doors: contents, dicom/writing, examining, fhir, page, result.
"""
