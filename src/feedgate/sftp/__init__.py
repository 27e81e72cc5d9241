"""The SFTP door: SSH by asyncssh, the SFTP request layer our own.

What lives here: everything between a TCP socket and ``files.home``: algorithms, public-key check,
channels, SFTP version 3 packets, statuses, what a supplier may read in them. What may not: paths
(``files.mapping``), decisions (``access``), the listening socket (``gateway.supervisor``).
Protocol: ``gateway.lifecycle.Door``. Form: ``server.SftpDoor``; it asks ``server.Login`` who may
log in. In the order in which a packet passes them: ``transport`` (and ``fastpath``) → asyncssh →
``authentication`` → ``channel`` → ``session`` → ``files.home``.
Before it: ``gateway.worker`` hands over an accepted socket. After it: ``files``.
Invariants: nothing of a client is used before its signature verified; only a client's CLOSE closes
a file, every other end abandons it; requests of a channel are answered in order; no text of an
exception leaves; every queue has a bound.
"""
