"""Example DAGs to copy; the tests run each of them unchanged but for its folders."""
