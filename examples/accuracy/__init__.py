"""What number formats cost trained networks: every picture is held out once, answered in float32 and on the device."""
