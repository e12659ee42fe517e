"""Every method on every sequence by every measure."""
