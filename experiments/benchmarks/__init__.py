"""Claims of speed, memory and quality, each measured by a command."""
