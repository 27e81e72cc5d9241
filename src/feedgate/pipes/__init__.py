"""From landing to rows: match, parse, load, history in one commit."""
