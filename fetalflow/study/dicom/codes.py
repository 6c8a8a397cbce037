"""The codes of our figures: LOINC and SNOMED CT names, UCUM units, and the formulas that DICOM has a code for.

Sources: DICOM PS3.16 CID 12005 (fetal biometry), 12013 (age), 12014 (weight), 12019 (summary), 42 (missing values).
"""

from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

OURS = "99FETALFLOW"  # names that no public scheme has
LENGTH_CODES: dict[str, Code] = {
    "hc": Code("11984-2", "LN", "Head Circumference"),
    "bpd": Code("11820-8", "LN", "Biparietal Diameter"),
    "ofd": Code("11851-3", "LN", "Occipital-Frontal Diameter"),
    "ac": Code("11979-2", "LN", "Abdominal Circumference"),
    "fl": Code("11963-6", "LN", "Femur Length"),
}
STRUCTURE_CODES: dict[str, Code] = {
    "head": Code("69536005", "SCT", "Head"),
    "abdomen": Code("818981001", "SCT", "Abdomen"),
    "femur": Code("71341001", "SCT", "Femur"),
}
ANATOMY = Code("91723000", "SCT", "Anatomical Structure")
AGE = Code("18185-9", "LN", "Gestational Age")
SEVERAL_LENGTHS_AGE = Code("11888-5", "LN", "Composite Ultrasound Age")
WEIGHT = Code("11727-5", "LN", "Estimated Weight")
EFW_PERCENTILE = Code("11767-1", "LN", "EFW percentile rank")
OBSTETRIC_SCAN = Code("11525-3", "LN", "US Pelvis and Fetus for pregnancy")
MM, GRAM, WEEK, DAY = (
    *(Code("mm", "UCUM", "millimeter"), Code("g", "UCUM", "gram")),
    *(Code("wk", "UCUM", "week"), Code("d", "UCUM", "day")),
)
PIXEL = Code("{pixels}", "UCUM", "pixels")
PERCENT, ONE = Code("%", "UCUM", "percent"), Code("1", "UCUM", "no units")
UNITS = {"mm": MM, "px": PIXEL, "g": GRAM, "weeks": WEEK}
# Formulas with a code, by the name of `biometry.estimates` and the lengths; for the others the report has their name.
FORMULA_CODES: dict[tuple[str, tuple[str, ...]], Code] = {
    ("Hadlock 1984", ("hc",)): Code("11932-1", "LN", "HC, Hadlock 1984"),
    ("Hadlock 1984", ("ac",)): Code("11892-7", "LN", "AC, Hadlock 1984"),
    ("Hadlock 1984", ("fl",)): Code("11920-6", "LN", "FL, Hadlock 1984"),
    ("Hadlock 1985", ("hc", "ac", "fl")): Code("11746-5", "LN", "EFW by AC, FL, HC, Hadlock 1985"),
    ("Hadlock 1985", ("ac", "fl")): Code("11751-5", "LN", "EFW by AC, FL, Hadlock 1985"),
}
EQUATION, CITATION = codes.DCM.Equation, codes.DCM.EquationCitation
PERCENTILE, Z_SCORE = codes.DCM.PercentileRankingOfMeasurement, codes.DCM.ZScoreOfMeasurement
GROWTH_PERCENTILE, GROWTH_Z = codes.DCM.GrowthPercentileRank, codes.DCM.GrowthZScore
UPPER = Code("371886008", "SCT", "+, range of upper measurement uncertainty")
LOWER = Code("371885007", "SCT", "-, range of lower measurement uncertainty")
MEDIAN = Code("373099004", "SCT", "Median")
COMMENT = codes.DCM.Comment
NOT_MEASURED, NOT_CALCULATED = codes.DCM.MeasurementFailure, codes.DCM.CalculationFailure
LEVEL = Code("interval-level", OURS, "Probability that the interval holds the true value")
UNFAMILIARITY = Code("unfamiliarity", OURS, "Unfamiliarity; above 1 is unlike the training data")
PROBABILITY = Code("probability", OURS, "Probability of the structure")
