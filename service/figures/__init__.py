"""Figures of studies and comparisons: each is one pure function from numbers to a Vega-Lite definition, with its data.

The definition is the answer as JSON; drawings (SVG, PNG) and the interactive page are made from it (``rendering``).
"""
