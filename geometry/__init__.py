"""Rows to numbers: the geometry of representations, each number with its floor.

This half loads no torch. The live half, which runs models, is :mod:`geometry.live`.
"""
