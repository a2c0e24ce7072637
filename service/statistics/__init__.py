"""The statistics of studies and comparisons: pure arithmetic over numbers, one idea a file, no database.

Each formula, with its source: docs/statistics.md. All numbers can be computed again from an export
(``service.export``). numpy is imported where it is used: a server answers before it has loaded it.
"""
