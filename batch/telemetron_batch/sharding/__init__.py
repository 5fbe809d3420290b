"""One run made by several processes or machines that share its folder: shards.

    sharing    places from which shards send, each with its part of the rate
    division   one plan for the whole input; for each shard a file of its calls
    making     makes the calls of one shard, with a journal of its own
    barrier    what the unassigns of all shards have left behind
    merging    the journals of all shards in the run's; from there on it is a run like any other

A shard unassigns, then assigns. In between it looks at what all others have left behind: a
device that may still be with its former owner is held, just as if one process did it all.
"""
