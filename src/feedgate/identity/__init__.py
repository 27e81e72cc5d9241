"""Users and their SSH keys, the template's and the live ones."""
