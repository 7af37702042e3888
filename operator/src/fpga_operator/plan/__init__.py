"""Pure decisions: one planner per kind, values in, values out, no I/O and no clock."""
