"""Everything for a person: commands, output, exit codes."""
