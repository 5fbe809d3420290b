"""DAGs to copy from; each is run by the tests as it stands here, in folders of their own."""
