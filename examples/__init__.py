"""The product at work: example models and the demo that serves them.

A regular package (not a namespace), because `python -m examples.demo` must find this folder before any
`examples` that a library left in site-packages.
"""
