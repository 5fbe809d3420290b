"""How long runs and addresses are kept: remove old runs, forget people, make anonymous copies."""
