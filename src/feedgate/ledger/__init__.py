"""Landings and receipts: who sent what, and what it became."""
