"""Bulk data past asyncssh's packet code: the one module that works with its private parts.

asyncssh copies each received packet about nine times and each sent one about twelve, and sends an
empty SSH_MSG_IGNORE before every packet (against a weakness of CBC ciphers, which are not offered).
For an AES-GCM connection that does nothing but carry channel data, this module

- receives into one buffer of the event loop, decrypts a whole packet once, and gives the payload to
  asyncssh's channel, which keeps its window, its pauses and its states;
- builds channel-data packets with one join and one encryption, without the SSH_MSG_IGNORE.

Everything else goes to asyncssh untouched: other messages, other ciphers, key exchange, whatever is
malformed or does not authenticate, for asyncssh's own checks and errors to deal with. A packet
that turns out not to be channel data is decrypted again there: the nonce moves only for what is
consumed here. Sequence numbers, nonces and the count of bytes until rekeying live in asyncssh's
objects only.

Guard: used with versions that it was tested with, and only if every private part is there; a test
holds it to the plain path byte for byte. Otherwise ``PlainWire`` serves, more slowly.
"""

# ruff: noqa: SLF001 - what this module is for

from __future__ import annotations

import asyncio
import os
import sys
import time
import weakref
from collections import deque
from typing import Any, Final

import asyncssh
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from feedgate.sftp.transport import ConnectionFactory, Wire

__all__ = ["TESTED_VERSIONS", "FastWire", "available", "speed_up"]

TESTED_VERSIONS: Final = frozenset({"2.24.1"})

_CHANNEL_DATA: Final = 94
_TAG_BYTES: Final = 16
_BLOCK_BYTES: Final = 16
_HEAD_BYTES: Final = 1 + 1 + 4 + 4  # padding length, message, channel, string length
_SEQUENCE_MASK: Final = 0xFFFFFFFF
_JOINED_BYTES: Final = 4 * 1024  # a smaller packet is joined with its length: one write less
_PADDING_BYTES: Final = 4 * 1024
_READY_MAX: Final = 128  # ciphers with their keys expanded, two for each session that is at work
_KEEPALIVE_SLACK_S: Final = 1.0  # setting a timer anew for each packet costs more than it gives

_CONNECTION_PARTS: Final = (
    *("_auth_complete", "_auth_final", "_channels", "_compressor", "_decompressor", "_inpbuf"),
    *("_kex_complete", "_max_recv_pktlen", "_pktlen", "_recv_blocksize", "_recv_encryption"),
    *("_recv_handler", "_recv_macsize", "_recv_packet", "_recv_pkthdr", "_recv_seq"),
    *("_rekey_bytes", "_rekey_bytes_sent", "_rekey_seconds", "_rekey_time"),
    *("_reset_keepalive_timer", "_send", "_send_blocksize", "_send_enchdrlen"),
    *("_send_encryption", "_send_seq", "_transport"),
)
_CHANNEL_PARTS: Final = (
    *("_accept_data", "_close_send", "_flush_send_buf", "_pause_resume_writing", "_recv_state"),
    *("_recv_window", "_send_buf", "_send_buf_len", "_send_chan", "_send_pktsize"),
    *("_send_state", "_send_window"),
)


def available() -> bool:
    """Whether this version of asyncssh was tested with."""
    return asyncssh.__version__ in TESTED_VERSIONS


class _Cipher:
    """One direction's AES-GCM, as long as its keys live. asyncssh's object keeps the nonce.

    ``aead`` is None until ``ready``, and again once enough others were made ready: each takes
    2.4 KiB and 5 µs to make, and an idle session needs none.
    """

    __slots__ = ("__weakref__", "aead", "encryption", "state")

    def __init__(self, encryption: Any) -> None:
        self.encryption = encryption
        self.state = encryption._cipher
        self.aead: AESGCM | None = None

    def ready(self) -> AESGCM:
        """The cipher with its keys expanded; of those made ready before, the oldest makes room."""
        made = self.aead = AESGCM(self.state._key)
        if len(_ready) >= _READY_MAX and (oldest := _ready.popleft()()) is not None:
            oldest.aead = None
        _ready.append(weakref.ref(self))
        return made

    @staticmethod
    def of(encryption: Any, known: _Cipher | None) -> _Cipher | None:
        """The cipher of an encryption object; None where it is not AES-GCM."""
        if known is not None and known.encryption is encryption:
            return known
        if type(encryption).__name__ != "GCMEncryption":
            return None
        return _Cipher(encryption)


_ready: Final[deque[weakref.ref[_Cipher]]] = deque()


class FastWire(Wire, asyncio.BufferedProtocol):
    """A wire that decrypts bulk data itself. See the module.

    ``buffer`` is shared by all wires of an event loop: what one receives is used up, or its tail
    moved away, before another receives.
    """

    def __init__(self, factory: ConnectionFactory, buffer: memoryview) -> None:
        super().__init__(factory)
        self._buffer = buffer
        self._loop = asyncio.get_running_loop()
        self._keepalive_reset_at = 0.0
        self._ssh: Any = self.connection
        assert all(hasattr(self._ssh, name) for name in _CONNECTION_PARTS)
        self._cipher: _Cipher | None = None
        self._tail = b""

    # -- asyncio.BufferedProtocol ---------------------------------------------------------------

    def get_buffer(self, sizehint: int) -> memoryview:
        """Room for more, behind the beginning of a packet that came before."""
        del sizehint
        have = len(self._tail)
        self._buffer[:have] = self._tail
        return self._buffer[have:]

    def buffer_updated(self, nbytes: int) -> None:
        """``nbytes`` more were received."""
        data = self._buffer[: len(self._tail) + nbytes]
        self._tail = b""
        if not self.authenticated:
            self.early(bytes(data))
            return
        try:
            self._received(data)
        except Exception:  # as asyncssh does with what its handlers raise
            self.connection.internal_error(sys.exc_info())

    def _received(self, data: memoryview) -> None:
        ssh = self._ssh
        now = self._loop.time()
        if now - self._keepalive_reset_at > _KEEPALIVE_SLACK_S:
            self._keepalive_reset_at = now
            ssh._reset_keepalive_timer()
        position, end = 0, len(data)
        while position < end:
            wanted = self._wanted_by_asyncssh()
            if wanted is None:  # it is busy, or at something else than packets
                ssh.data_received(bytes(data[position:]))
                return
            if wanted:  # it holds a beginning: give it the rest of that, no more
                ssh.data_received(bytes(data[position : position + wanted]))
                position += wanted
                continue
            size = self._packet_size(data, position)
            if size is None or position + size > end:
                self._tail = bytes(data[position:])
                return
            if not self._channel_data(data[position : position + size]):
                ssh.data_received(bytes(data[position : position + size]))
            position += size

    def _wanted_by_asyncssh(self) -> int | None:
        """How many bytes asyncssh lacks; 0 between packets; None if all is to go to it."""
        ssh = self._ssh
        cipher = self._cipher = _Cipher.of(ssh._recv_encryption, self._cipher)
        if cipher is None or ssh._decompressor is not None or ssh._transport is None:
            return None
        held = len(ssh._inpbuf)
        wanted = 0
        if ssh._recv_handler == ssh._recv_pkthdr:
            if not held:
                return 0
            wanted = ssh._recv_blocksize - held
        elif ssh._recv_handler == ssh._recv_packet:
            wanted = 4 + ssh._pktlen + ssh._recv_macsize - ssh._recv_blocksize - held
        return wanted if wanted > 0 else None

    def _packet_size(self, data: memoryview, position: int) -> int | None:
        """The size of the packet that begins there; None if it cannot be told yet."""
        if len(data) - position < _BLOCK_BYTES:
            return None
        length = int.from_bytes(data[position : position + 4], "big")
        if length > self._ssh._max_recv_pktlen:
            return len(data) - position  # asyncssh refuses it by its first block
        return 4 + length + _TAG_BYTES

    def _channel_data(self, packet: memoryview) -> bool:
        """Consume a packet if it is channel data and in order; False leaves it to asyncssh."""
        ssh, cipher = self._ssh, self._cipher
        assert cipher is not None
        try:
            aead = cipher.aead or cipher.ready()
            plain = aead.decrypt(cipher.state._iv, packet[4:], packet[:4])
        except (InvalidTag, ValueError):
            return False
        padding = plain[0]
        size = len(plain) - padding - _HEAD_BYTES
        if size < 0 or plain[1] != _CHANNEL_DATA:
            return False
        if size != int.from_bytes(plain[6:10], "big"):
            return False
        channel = ssh._channels.get(int.from_bytes(plain[2:6], "big"))
        if channel is None or channel._recv_state != "open" or size > channel._recv_window:
            return False
        cipher.state._update_iv()
        ssh._recv_seq = (ssh._recv_seq + 1) & _SEQUENCE_MASK
        ssh._auth_final = True
        channel._accept_data(memoryview(plain)[_HEAD_BYTES : _HEAD_BYTES + size])
        return True


# -- sending --------------------------------------------------------------------------------------


def speed_up(channel: asyncssh.SSHServerChannel[bytes]) -> None:
    """Let a channel send its data by the fast path where it applies."""
    assert all(hasattr(channel, name) for name in _CHANNEL_PARTS)
    flush = _Flush(channel)
    channel._flush_send_buf = flush  # type: ignore[method-assign]


class _Flush:
    """In place of ``SSHChannel._flush_send_buf``, which asyncssh calls when data or window came."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        self._plain = channel._flush_send_buf
        self._cipher: _Cipher | None = None

    def __call__(self) -> None:
        channel = self._channel
        if channel._send_buf and channel._send_window and channel._send_chan is not None:
            self._send_all(channel, channel._conn)
        self._plain()  # what is left, and everything that follows an empty buffer

    def _send_all(self, channel: Any, ssh: Any) -> None:
        if ssh is None or ssh._compressor is not None or ssh._transport is None:
            return
        cipher = self._cipher = _Cipher.of(ssh._send_encryption, self._cipher)
        if cipher is None or ssh._send_enchdrlen != 1 or ssh._send_blocksize != _BLOCK_BYTES:
            return
        head = bytes([_CHANNEL_DATA]) + channel._send_chan.to_bytes(4, "big")
        while channel._send_buf and channel._send_window and _may_send(ssh):
            data, datatype = channel._send_buf[0]
            if datatype is not None:
                return
            sent = self._send_some(channel, ssh, cipher, head, data)
            channel._send_buf_len -= sent
            if sent == len(data):
                del channel._send_buf[0]
            else:
                del data[:sent]

    def _send_some(
        self, channel: Any, ssh: Any, cipher: _Cipher, head: bytes, data: bytearray
    ) -> int:
        """Send from one buffer until it, the window, or the time until rekeying ends."""
        position, end = 0, len(data)
        with memoryview(data) as view:
            while position < end and channel._send_window and _may_send(ssh):
                size = min(end - position, channel._send_window, channel._send_pktsize)
                padding = -(_HEAD_BYTES + size) % _BLOCK_BYTES
                if padding < 4:
                    padding += _BLOCK_BYTES
                plain = b"".join(
                    (
                        padding.to_bytes(1, "big"),
                        head,
                        size.to_bytes(4, "big"),
                        view[position : position + size],
                        _padding(padding),
                    )
                )
                length = len(plain).to_bytes(4, "big")
                sealed = (cipher.aead or cipher.ready()).encrypt(cipher.state._iv, plain, length)
                cipher.state._update_iv()
                ssh._send(length + sealed if size <= _JOINED_BYTES else length)
                if size > _JOINED_BYTES:
                    ssh._send(sealed)
                ssh._send_seq = (ssh._send_seq + 1) & _SEQUENCE_MASK
                ssh._rekey_bytes_sent += len(plain)
                channel._send_window -= size
                position += size
        return position


class _Padding:
    """Random bytes, taken from the system some hundred packets at a time."""

    def __init__(self) -> None:
        self._bytes = b""
        self._at = 0

    def __call__(self, size: int) -> bytes:
        if self._at + size > len(self._bytes):
            self._bytes, self._at = os.urandom(_PADDING_BYTES), 0
        self._at += size
        return self._bytes[self._at - size : self._at]


_padding: Final = _Padding()


def _may_send(ssh: Any) -> bool:
    """No key exchange is under way, and none is due: asyncssh begins one before its next packet."""
    return bool(
        ssh._kex_complete
        and ssh._auth_complete
        and ssh._rekey_bytes_sent < ssh._rekey_bytes
        and (not ssh._rekey_seconds or time.monotonic() < ssh._rekey_time)
    )
