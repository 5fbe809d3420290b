"""What customers hold as input files: all of it (`holdings`), or what differs from a file (`compare`).

Both commands only query. `lookup` takes the locks and asks, `difference` compares, `input_file` writes.
"""
