"""From a float network to programs: read (:mod:`onnx_import`), :mod:`quantize`, choose (:mod:`budget`), :mod:`schedule`."""
