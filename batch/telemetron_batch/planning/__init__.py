"""What is to be sent: rows become calls in stages, unless a brake or an earlier run says otherwise."""
