"""Handwritten digits: a network small enough to train while one waits, and real enough to be wrong
sometimes.
"""
