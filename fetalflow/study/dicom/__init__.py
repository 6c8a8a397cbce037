"""A StudyResult of DICOM files comes in; a report, segmentations and pictures in DICOM go out, for the same study.

highdicom builds the objects. None of its constructors sees the header of a source: they get a stand-in that holds only
what they may copy (`sources.py`), so an unusual header cannot stop them and nothing else of it is copied.
"""
