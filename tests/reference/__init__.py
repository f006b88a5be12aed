"""The specification: every operation in float64 NumPy, a few lines each, with its formula and source.

Gradients are ``d`` + name; ``dy`` is the gradient of the output. Nothing here is fast, and nothing here is shared with
the library: what the tests compare must have been written twice.
"""
