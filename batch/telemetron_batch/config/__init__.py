"""One frozen configuration from flags, environment, profile and defaults."""
