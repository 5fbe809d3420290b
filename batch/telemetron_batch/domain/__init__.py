"""The words that every package uses: actions, outcomes, reasons, stops, errors, files and answers."""
