"""TensorFlow's side of the converter. Nothing outside this folder imports TensorFlow."""
