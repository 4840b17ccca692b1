"""A detector as an ONNX file that computes in eight bits."""
