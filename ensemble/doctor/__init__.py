"""What stands between this machine and a served answer, told before it fails. Reads; writes and changes nothing."""
