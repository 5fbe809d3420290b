"""Types that every package uses: actions, outcomes, reasons, stops, errors, input files and answers."""
