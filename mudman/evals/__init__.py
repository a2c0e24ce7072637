"""What is measured on a model, without changing it."""
