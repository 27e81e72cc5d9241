"""What a supplier does with files: paths, uploads, downloads, listings, commit."""
