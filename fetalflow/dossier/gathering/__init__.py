"""What is on record about a version comes in; the files of the folder `evidence` go out, one module for each source.

Each module has `gather(subject, folder)`. It writes files into `folder` and reads nothing that another module wrote. No
name or pseudonym of a patient comes into the evidence: a table of patients is written as counts.
"""
