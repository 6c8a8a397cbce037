"""What a hospital delivers, or the synthetic one, comes in; the checked rows of one drop go out.

Doors: arrival/find_patient, arrival/inbox, arrival/intake, arrival/journal, arrival/patient_sides,
arrival/permanent_names, arrival/recall, arrival/recall_record, arrival/received_rows, arrival/relabel,
arrival/store_key, arrival/withdrawal, deidentify/drop, deidentify/files, deidentify/free_text, deidentify/header,
deidentify/pseudonyms, deidentify/sealed, deidentify/table, drop/annotators, drop/columns, drop/contents,
drop/fingerprint, drop/first_look, drop/ground_truth, drop/identity, drop/inside, drop/layouts/layout, drop/opening,
drop/plain_names, drop/quarantine, drop/review, drop/rows, drop/spelling, drop/table, drop/unknown_patients,
quarantine_desk.
"""
