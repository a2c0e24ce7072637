"""The reference part of the documentation, written from the code that it tells of: ``python -m service.reference``."""
