"""The page for clerks: `serve` and the accounts of its users."""
