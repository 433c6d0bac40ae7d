"""Ties ``spec/`` to the code and the tests, and checks that the ties hold.

Spec: none of it; this package is about the whole of it.
"""
