"""Send the calls of a plan: paced, retried, split if refused, with each attempt in the journal before it leaves."""
