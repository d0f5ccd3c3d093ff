"""A project that goes round nothing."""
