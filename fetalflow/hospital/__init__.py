"""What a hospital delivers, or the synthetic one, comes in; the checked rows of one drop go out.

Doors: arrival/find_patient, arrival/intake, arrival/journal, arrival/patient_sides, arrival/permanent_names,
arrival/recall, arrival/received_rows, arrival/store_key, arrival/withdrawal, deidentify/drop, deidentify/pseudonyms,
drop/annotators, drop/columns, drop/fingerprint, drop/first_look, drop/ground_truth, drop/identity,
drop/layouts/layout, drop/opening, drop/quarantine, drop/review, drop/rows, drop/spelling, drop/unknown_patients,
quarantine_desk.
"""
