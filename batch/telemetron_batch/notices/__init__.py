"""Tell people and monitoring how a run ended: messages, pings and metrics.

ending       how a command about a run ended, as values
policy       which ends are told, and what a ping says: pure
text         the words of a message, from templates
messages     send a message through Apprise
ping         get the URL of a dead-man's switch
metrics      write the file for Prometheus
deliveries   do all that aside, and wait for it a limited time
announce     the door: everything that begins or ends a run passes through it
refusal      the same for a command whose options cannot be used
send_test    the command `notify --test`
"""
