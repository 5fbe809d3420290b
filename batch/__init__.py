"""Bulk device assignments for Telemetron: a CSV in, paced bulk calls out, one outcome for every row.

The folders are the way of the rows, in the order in which they are best read:

    model, rows     the words of the trade
    input           files ──> rows
    planning        rows ──> calls in stages
    sending         calls ──> answers
    reconciliation  answers ──> one outcome a row, and the files that tell of it
    sharding        the same by several processes or machines
    storage         what is kept on disk on the way: the journal above all (`draft`, `reader`, `journal`)
    app             puts them together; `cli`, `screen` and `airflow_provider` are its doors
    stand_in        an API to try things out on
"""

__version__ = "0.2.0"
