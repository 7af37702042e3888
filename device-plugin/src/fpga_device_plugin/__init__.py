"""Emulated FPGAs on a node: `emulator` keeps the cards' processes alive, `plugin` shows them to the kubelet.

The two are separate processes: the emulator is the hardware, and outlives every update of the plugin.
"""

__version__ = "0.1.0"
