"""A model package comes in; ONNX, 8-bit and OpenVINO models, judged against torch, go out."""
