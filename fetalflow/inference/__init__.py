"""A model package and an image, cine, array or stream come in; predictions and measurements go out.

Doors: actogram/drawing, actogram/observe, actogram/result, engines/choice, engines/engine, engines/feeding,
engines/formats, engines/parity, engines/record, engines/spread, engines/stream_formats, engines/timing,
examination/examine, examination/fetus, examination/folder, examination/identity, examination/overlay,
examination/result, examination/run_length, examination/tiling, latency, package, streaming/live,
streaming/source, streaming/streamer, streaming/tally.
"""
