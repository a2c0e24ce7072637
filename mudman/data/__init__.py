"""From a corpus named in a spec to token batches on a device."""
