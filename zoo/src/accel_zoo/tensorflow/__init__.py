"""What needs TensorFlow: the extra `accel-zoo[tensorflow]`."""
