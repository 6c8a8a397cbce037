"""The library: a hospital's cines in, a registered, explained model out. Knows neither DVC nor Prefect.

The rooms in the order in which the data flow: settings, hospital, cine, sequences, quality, models, training, biometry,
evaluation, inference, report, registry, promotion.
"""

import os
import sys

# No library reports its use to its makers. They read these variables when they are imported, so they stand here, where
# every stage, command and server begins. ONNX Runtime and OpenVINO also wrote an identifier into the home folder.
for name, value in {
    "DO_NOT_TRACK": "1",  # Prefect and others
    "DVC_NO_ANALYTICS": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "ORT_DISABLE_TELEMETRY": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
}.items():
    os.environ.setdefault(name, value)
sys.modules.setdefault("openvino_telemetry", None)  # OpenVINO has no variable; it works without this package
# Prefect and Great Expectations import jsonschema, which imports this package if it is there. It builds a grammar for
# web addresses in other alphabets: 1.7 s of each process. Nothing here checks such addresses.
sys.modules.setdefault("rfc3987_syntax", None)
