"""The SFTP door: SSH by asyncssh, the SFTP request layer our own."""
