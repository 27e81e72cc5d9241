"""feedgate: an SFTP gateway for data platforms, defined by a template and a warehouse script.

Read the packages from the door inward: ``sftp`` → ``files`` → ``access`` → ``storage`` → ``ledger``
→ ``pipes``. ARCHITECTURE.md names the modules in the order in which a file passes them.
"""

__version__ = "0.1.0"

__all__ = ["__version__"]
