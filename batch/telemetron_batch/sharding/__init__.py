"""Make one run with several processes or machines that share its folder: shards.

    partition    divide the calls of a plan into shards, one file of calls each
    shard_plan   plan a run and divide it
    rate_slots   divide the rate among the shards that run at once
    run_shard    make the calls of one shard, with its own journal
    barrier      collect the devices that the unassigns of all shards did not surely release
    lost_records refuse a shard that has lost what the run's journal already has
    merge        import the journals of all shards into the run's, and report the run
    report       report a run, sharded or not

A shard unassigns, then assigns. In between it reads which devices the other shards have not surely
released; it holds their assigns, as a run in one process does.
"""
