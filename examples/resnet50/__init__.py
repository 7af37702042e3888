"""Keras' own ResNet-50: the network that Brainwave was known for, at its real size, without downloaded
weights.
"""
