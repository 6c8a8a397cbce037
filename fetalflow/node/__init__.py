"""Objects of a scanner or a PACS come in over DICOM; deliveries for the inboxes and results for the sender go out.

Doors: forgetting, listening, sending, serving.
"""
