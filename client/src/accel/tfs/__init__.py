"""TensorFlow Serving's wire format without TensorFlow: messages, services and the way to and from numpy."""
