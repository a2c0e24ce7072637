"""Evidence bundles: everything that a result rests on, in one file that is checked without us (docs/evidence.md)."""
