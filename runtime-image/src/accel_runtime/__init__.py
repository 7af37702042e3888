"""The model server that AccelImages carry: TensorFlow Serving's Predict in front of one FPGA."""
