"""The elements of FHIR R4 that we use, as JSON schemas, and the resources of a bundle that fulfils them."""

import jsonschema

from fetalflow.study.result import FOR_RESEARCH

TEXT, UUID = {"type": "string", "minLength": 1}, {"type": "string", "pattern": "^urn:uuid:[0-9a-f-]{36}$"}


def of(required=(), **parts):
    return {"type": "object", "properties": parts, "required": list(required), "additionalProperties": False}


def many(item):
    return {"type": "array", "items": item, "minItems": 1}


# The elements of FHIR R4 that we use, each with its kind and whether it must be there. An element that R4 does not know
# is refused here as by a server. Once checked with fhir.resources 8.3 (R4B), which is too large to be installed.
CODING = of(("system", "code"), system=TEXT, code=TEXT, display=TEXT)
CONCEPT = of(coding=many(CODING), text=TEXT)
QUANTITY = of(
    ("value", "code"), value={"type": "number"}, unit=TEXT, system={"const": "http://unitsofmeasure.org"}, code=TEXT
)
IDENTIFIER = of(("value",), system=TEXT, value=TEXT, assigner=of(display=TEXT))
REFERENCE = of(reference=UUID, type=TEXT, identifier=IDENTIFIER)
META = of(("security",), security=many(CODING))
NOTES = many(of(("text",), text=TEXT))
COMMON = {
    **{"resourceType": TEXT, "id": TEXT, "meta": META, "status": {"const": "preliminary"}, "subject": REFERENCE},
    **{"category": many(CONCEPT), "code": CONCEPT},
    "effectiveDateTime": {"type": "string", "pattern": r"^\d{4}-\d{2}-\d{2}$"},
}
COMPONENT = of(
    ("code",),
    code=CONCEPT,
    valueQuantity=QUANTITY,
    valueCodeableConcept=CONCEPT,
    valueString=TEXT,
    valueInteger={"type": "integer"},
    dataAbsentReason=CONCEPT,
) | {"minProperties": 2, "maxProperties": 2}
OBSERVATION = of(
    ("status", "code", "meta"),
    **COMMON,
    valueQuantity=QUANTITY,
    dataAbsentReason=CONCEPT,
    note=NOTES,
    bodySite=CONCEPT,
    method=CONCEPT,
    device=REFERENCE,
    component=many(COMPONENT),
)
OBSERVATION["oneOf"] = [{"required": ["valueQuantity"]}, {"required": ["dataAbsentReason"]}]
SCHEMAS = {
    "DiagnosticReport": of(
        ("status", "code", "meta", "conclusion"),
        **COMMON,
        result=many(of(("reference",), reference=UUID)),
        conclusion=TEXT,
        imagingStudy=many(REFERENCE),
    ),
    "Observation": OBSERVATION,
    "Device": of(
        **{"resourceType": TEXT, "id": TEXT, "note": NOTES},
        deviceName=many(of(("name", "type"), name=TEXT, type={"const": "model-name"})),
        version=many(of(("value",), type=CONCEPT, value=TEXT)),
    ),
}


def resources(bundle, kind):
    """Of a bundle that was checked against the schemas."""
    urls = [each["fullUrl"] for each in bundle["entry"]]
    assert len(set(urls)) == len(urls) and (bundle["resourceType"], bundle["type"]) == ("Bundle", "collection")
    for each in bundle["entry"]:
        jsonschema.validate(each["resource"], SCHEMAS[each["resource"]["resourceType"]])
        assert each["fullUrl"] == f"urn:uuid:{each['resource']['id']}"
    report = bundle["entry"][0]["resource"]
    assert {each["reference"] for each in report.get("result", [])} <= set(urls) and FOR_RESEARCH.rstrip(".") in report[
        "conclusion"
    ]
    return [each["resource"] for each in bundle["entry"] if each["resource"]["resourceType"] == kind]
