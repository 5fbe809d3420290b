"""Bulk device assignments for Telemetron: a CSV in, paced bulk calls out, one outcome for every row.

The packages, the lowest first. A package imports only from lower ones, here those above it. Read
`run/pipeline.py` first: it says what a run does, in order.

    domain          the words that all others use: actions, outcomes, reasons, stops, errors
    storage         files, folders, locks and spill files
    config          one frozen configuration from flags, environment, profile and defaults
    rows            input rows as columns
    journal         the durable record of a run
    input           files -> rows
    planning        rows -> calls in stages
    sandbox         the embedded stand-in for the API
    rate_limit      when an attempt may leave
    api             one request, and what its answer means
    sending         calls -> answers
    reconciliation  answers -> one outcome for each row
    verification    what customers hold, compared with what a run did
    reports         the files that people read
    notices         tell people and monitoring how a run ended
    run             one run from start to end
    sharding        one run by several processes or machines
    retention       old runs and the addresses of people go
    comparison      what customers hold -> input files
    init            a profile from a look at a file
    cli, airflow_provider  the doors
"""

__version__ = "0.2.0"
