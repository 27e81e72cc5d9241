"""Every bound as a named constant: its value, its unit, who set it.

Units come last in a name. A bound that an operator may change is an option of ``up`` whose default
stands here.
"""

from __future__ import annotations

from typing import Final

# -- SFTP (draft-ietf-secsh-filexfer-02; OpenSSH PROTOCOL §4) -----------------------------------
SFTP_PACKET_BYTES_MAX: Final = 256 * 1024  # OpenSSH's SFTP_MAX_MSG_LENGTH
SFTP_READ_BYTES_MAX: Final = 255 * 1024  # OpenSSH's limits@openssh.com answer
SFTP_WRITE_BYTES_MAX: Final = 255 * 1024
SFTP_HANDLES_MAX: Final = 1_000  # per SFTP session; Erlang's max_handles after its CVE
OPEN_HANDLES_MAX: Final = 4_096  # per process; a connection may have a quarter of them
OPEN_HANDLES_MIN: Final = 32  # however few descriptors there are
DESCRIPTORS_WANTED: Final = 16_384  # for handles, connections and the rest; the system may say less
DESCRIPTORS_OWN: Final = 256  # database, logs, directories: not for handles
SFTP_PATH_BYTES_MAX: Final = 4_096  # Linux PATH_MAX
SFTP_CHANNELS_MAX: Final = 10  # per connection, as AWS Transfer documents
READDIR_NAMES_MAX: Final = 128  # names in one reply

# -- SSH ----------------------------------------------------------------------------------------
LOGIN_TIMEOUT_S: Final = 30
KEEPALIVE_COUNT_MAX: Final = 5  # unanswered in UNRESPONSIVE_S
EXPIRY_WATCH_S: Final = 2  # between two looks for sessions whose user or key expired
AUTH_TRIES_MAX: Final = 6  # per connection, as OpenSSH's MaxAuthTries
HOST_KEYS_MAX: Final = 10  # announced ones included; their list goes to each client
HOST_KEY_RSA_BITS: Final = 3_072  # of a key made here
HOST_KEY_RSA_BITS_MIN: Final = 2_048  # of one that is imported, so that a server can move here
HOST_KEY_OVERLAP_DAYS: Final = 30  # a supplier who logs in once a month learns the next key
HOST_KEY_PROOFS_MAX: Final = 4  # requests per connection; each is a signature or more
CONNECTIONS_MAX: Final = 4_000  # for the gateway as a whole, as the next eleven
CONNECTIONS_PER_ADDRESS_MAX: Final = 1_000  # a /64 of IPv6 is one address
CONNECTIONS_PER_USER_MAX: Final = 500
UNAUTHENTICATED_MAX: Final = 600  # beyond it a newer one displaces an older one
UNAUTHENTICATED_PER_ADDRESS_MAX: Final = 200
AUTH_FAILURES_MAX: Final = 20  # of an address, halved every PENALTY_HALF_LIFE_S
PENALTY_HALF_LIFE_S: Final = 300
PENALTY_S: Final = 5.0  # an address with more failures is refused; doubles with each further one
PENALTY_S_MAX: Final = 600.0  # as OpenSSH's PerSourcePenalties max
WRONG_PASSWORDS_FREE: Final = 5  # for one user, before answers become slower
PASSWORD_DELAY_S: Final = 0.25  # doubles with each further wrong password
PASSWORD_DELAY_S_MAX: Final = 8.0  # well below LOGIN_TIMEOUT_S
KNOWN_ADDRESS_S: Final = 30 * 86_400  # an address from which a user logged in stays known to him
SCORES_KEPT_MAX: Final = 10_000  # addresses and users of whom failures are remembered
REPORTS_WAITING_MAX: Final = 20_000  # a worker's messages that its supervisor has not taken yet
REJECTIONS_LOGGED_MAX: Final = 100  # lines per second about connections that are refused
PROXY_HEADER_S: Final = 5.0  # for a PROXY protocol header to arrive
PROXY_HEADER_BYTES_MAX: Final = 1_024  # of version 2 with its extra values; version 1 has 107
TCP_KEEPALIVE_IDLE_S: Final = 60  # then TCP asks whether the peer is there
TCP_KEEPALIVE_INTERVAL_S: Final = 30
TCP_KEEPALIVE_PROBES: Final = 4
UNRESPONSIVE_S: Final = 300  # AWS Transfer gives up on a silent peer after it
PASSWORD_CHARS_MIN: Final = 12  # NIST SP 800-63B asks for 8, and for 15 where it is the only factor
PASSWORD_CHARS_MAX: Final = 512
PASSWORD_THREADS: Final = 2  # per worker, 19 MiB each while they verify
PASSWORDS_WAITING_MAX: Final = 64  # for these threads; more are refused unread
USERS_KEPT_MAX: Final = 256  # as they were read; with their sessions' policies
KEY_USE_RECORDED_S: Final = 60  # the last use of a key is written this often at most
FINGERPRINTS_TOLD_MAX: Final = 6  # of the keys that a refused connection offered
LOGINS_KEPT_MAX: Final = 4_000  # rows of who logged in; the same of refused users, and strangers
LOGINS_KEPT_S: Final = 90 * 86_400
LOGINS_PER_ADDRESS_MAX: Final = 100  # rows of names that nobody has, from one address
LOGINS_PENDING_MAX: Final = 500  # kinds of logins and refusals that wait to be written
LOGINS_WRITTEN_S: Final = 1.0  # they are written this often at most
LOGIN_TEXT_CHARS_MAX: Final = 256  # of a name or a client's version; eight times that of a detail

# -- the door -----------------------------------------------------------------------------------
SFTP_PACKET_SLACK_BYTES: Final = 1_024  # a WRITE's own fields beside 256 KiB of data
SFTP_NAMES_BYTES_MAX: Final = 192 * 1024  # of one READDIR reply; OpenSSH takes 256 KiB
SFTP_REPLIES_BYTES: Final = 256 * 1024  # replies gathered before they are written
SFTP_BACKLOG_BYTES_MAX: Final = 512 * 1024  # requests that wait; above it the channel pauses
SFTP_TURN_S: Final = 0.005  # one session's turn before others get the loop
DIGEST_PIECE_BYTES: Final = 1024 * 1024  # hashed at a time for one client
DIGEST_BYTES_MAX: Final = 192 * 1024  # of one answer to check-file
IDLE_TIMEOUT_S: Final = 1_800  # without a request; AWS Transfer's
AUTH_FAILURE_S: Final = 0.01  # a refusal takes at least this long, whatever was looked up
AUTH_REQUESTS_MAX: Final = 24  # of any method, per connection
PREAUTH_BYTES_MAX: Final = 1024 * 1024  # received before authentication
# what a client may send ahead on a channel: keeps a line of 20 ms each way full
CHANNEL_WINDOW_BYTES: Final = 4 * 1024 * 1024
CHANNEL_PACKET_BYTES: Final = 32 * 1024  # of one channel-data packet
RECEIVE_BUFFER_BYTES: Final = 512 * 1024  # one per event loop; holds the largest packet and more
MALLOC_MMAP_BYTES: Final = 4 * 1024 * 1024  # smaller blocks are kept when freed
MALLOC_KEPT_BYTES: Final = 32 * 1024 * 1024  # free memory that a process keeps
TRANSPORT_GATHER_BYTES: Final = 256 * 1024  # SSH packets that share one write
TRANSPORT_BUFFER_BYTES_MAX: Final = 1024 * 1024  # unsent bytes above which replies wait
TRANSPORT_LINGER_S: Final = 2  # for the last bytes of a connection that ends

# -- uploads ------------------------------------------------------------------------------------
REORDER_WINDOW_BYTES: Final = 16 * 1024 * 1024
UPLOAD_QUEUE_BYTES_MAX: Final = 16 * 1024 * 1024  # above it the channel stops reading
UPLOAD_BATCH_BYTES: Final = 1024 * 1024  # handed to the worker thread at a time
UPLOAD_BATCH_PIECES_MAX: Final = 1_024  # or so many pieces, if a client sends tiny ones
UPLOAD_INLINE_BYTES_MAX: Final = 48 * 1024  # smaller uploads never leave the loop
UPLOAD_THREADS: Final = 4  # per process; they hash, encrypt and write
UPLOAD_SHARE_BYTES: Final = 256 * 1024  # each may hold in either way, however much others hold
UPLOADS_QUEUED_BYTES_MAX: Final = 128 * 1024 * 1024  # per process, on the way to the threads
UPLOADS_HELD_BYTES_MAX: Final = 128 * 1024 * 1024  # per process, waiting for the bytes before them

# -- the embedded bucket ------------------------------------------------------------------------
SEGMENT_BYTES: Final = 64 * 1024  # one AES-GCM segment of a part
INLINE_OBJECT_BYTES_MAX: Final = 64 * 1024  # ciphertext that lies in the index row itself
OBJECT_KEY_BYTES_MAX: Final = 1_024  # S3
LIST_KEYS_MAX: Final = 1_000  # S3 ListObjectsV2 page
PART_BUFFER_BYTES: Final = 4 * 64 * 1024  # of ciphertext, per upload; more is not faster (measured)
EXTENTS_MAX: Final = 1_024  # of one object; with more it is written anew, in order, at CLOSE
EXTENTS_OPEN_MAX: Final = 65_536  # while it is being written; more scattered writes are refused
PARTS_MAX: Final = 64  # of one object; with more it is written anew as one
DEAD_BYTES_MAX: Final = 64 * 1024 * 1024  # beyond the object's size; the same
PARTIAL_S: Final = 24 * 3_600  # what a lost connection left of an upload waits for its resume
PARTIAL_GRAIN_BYTES: Final = 32 * 1024  # a partial is told in these, and never to its last byte
PARTIALS_OF_KEY_MAX: Final = 8  # of one user and key that are looked at
HOLE_BYTES_MAX: Final = 64 * 1024 * 1024  # of one object, never written; SHA-256 covers them
HELD_PIECE_OVERHEAD_BYTES: Final = 256  # what a piece out of order costs beside its bytes
EARLY_SYNC_BYTES: Final = 32 * 1024 * 1024  # an upload is synced in the background this often
SYNC_THREADS: Final = 2  # that sync uploads in the background
SPACE_CHECK_BYTES: Final = 8 * 1024 * 1024  # free space is looked at this often in an upload
UPLOAD_LEASE_S: Final = 3_600  # how long an upload that writes nothing keeps its parts
OBJECT_BYTES_MAX: Final = 5 * 1024**4  # S3
RENAME_KEYS_MAX: Final = 1_000  # objects that one rename of a directory moves
LIST_SEEK_KEYS: Final = 16  # rows read at a time while common prefixes are skipped
GARBAGE_BATCH: Final = 100  # rows of one garbage transaction
FREE_SPACE_FLOOR_FRACTION: Final = 0.05
FREE_SPACE_FLOOR_BYTES: Final = 1024**3  # whichever of the two is smaller

# -- the database -------------------------------------------------------------------------------
COMMIT_GROUP_MAX: Final = 256  # callers that share one commit
DATABASE_BUSY_MS: Final = 10_000  # only a foreign tool that holds the file makes us wait
DATABASE_CACHE_KIB: Final = 8 * 1024  # per connection
WAL_CHECKPOINT_PAGES: Final = 4_000  # 16 MiB
WAL_BYTES_KEPT: Final = 64 * 1024 * 1024

# -- KMS ----------------------------------------------------------------------------------------
KMS_ROTATION_DAYS: Final = 365  # AWS KMS's automatic rotation

# -- definition ---------------------------------------------------------------------------------
RENDER_TIME_S_MAX: Final = 20
RENDER_MEMORY_BYTES_MAX: Final = 1024**3
RENDER_OUTPUT_BYTES_MAX: Final = 16 * 1024 * 1024  # CloudFormation takes 1 MB from S3
RENDER_TRACE_BYTES_MAX: Final = 256 * 1024  # what `std.trace` may print
SESSION_POLICY_CHARS_MAX: Final = 2_048  # AWS Transfer's quota
HOME_MAPPINGS_MAX: Final = 2_000  # AWS Transfer's quota per service-managed user

# -- policies -----------------------------------------------------------------------------------
POLICY_BINDINGS_MAX: Final = 256  # matchers kept per pattern with variables
VIEWS_KEPT_MAX: Final = 128  # principals whose policies and decisions are held, the busy ones
OUTCOMES_KEPT_MAX: Final = 256  # per principal, action and shape of request; dropped when full
AUDIT_HEADS_KEPT_MAX: Final = 4_096  # beginnings of audit lines; dropped together when full
DECISIONS_KEPT_MAX: Final = 8_192  # memoised per principal; dropped together when full
POLICY_CHARS_MAX: Final = {  # IAM quotas, white space not counted; S3 and KMS: bytes
    "identity": 10_240,
    "session": SESSION_POLICY_CHARS_MAX,
    "boundary": 6_144,
    "bucket": 20 * 1024,
    "kms": 32 * 1024,
    "trust": 4_096,
}

# -- the gateway --------------------------------------------------------------------------------
WORKERS_MAX_DEFAULT: Final = 4  # or the number of cores; `--workers` may say more
GRACE_S: Final = 30  # what SIGTERM gives open transfers
POLL_S: Final = 1.0  # tables are polled this often; wake-ups are hints
ACCEPT_BACKLOG: Final = 512
START_TIMEOUT_S: Final = 30  # children ready, or the gateway did not start
RESTART_DELAY_S: Final = 0.2  # before a child that died is started again
HOUSEKEEPING_S: Final = 2  # garbage; two index look-ups when there is none
QUERY_REQUEST_BYTES_MAX: Final = 1024 * 1024
QUERY_ANSWER_BYTES_MAX: Final = 256 * 1024 * 1024
QUERY_TIMEOUT_S: Final = 60
WAREHOUSE_LOCK_WAIT_S: Final = 5  # a predecessor that is just ending still holds DuckDB's lock

# -- warehouse.sql ------------------------------------------------------------------------------
WAREHOUSE_SQL_CHARS_MAX: Final = 1024 * 1024  # one script; a page of SQL has some 5,000

# -- loading ------------------------------------------------------------------------------------
LOAD_READ_BYTES: Final = 1024 * 1024  # of an object, read, decoded and turned into rows at a time
LOAD_BATCH_ROWS: Final = 20_000  # handed to the warehouse at a time by the plain tokenizers
RECORD_CHARS_MAX: Final = 16 * 1024 * 1024  # of one CSV record or JSON value; Snowflake's VARCHAR
GZIP_RATIO_MAX: Final = 250  # a gzip that grows by more, beyond the next figure, is a bomb
GZIP_FREE_BYTES: Final = 64 * 1024 * 1024  # of expanded text, whatever the ratio
LOAD_ERRORS_KEPT_MAX: Final = 100  # row errors with their text on a receipt; all are counted
LOAD_PAGE: Final = 64  # pending landings looked at in one step of the loader
LOAD_STEP_S: Final = 0.25  # after which a step returns between two landings
LOAD_RETRY_S: Final = 1.0  # after a fault of disk or warehouse; doubles each time
LOAD_RETRY_S_MAX: Final = 60.0
WAREHOUSE_MEMORY_MIB: Final = 512  # DuckDB's memory_limit; beyond it spills, encrypted
WAREHOUSE_THREADS: Final = 2
QUERY_ROWS_MAX: Final = 100_000  # of one answer; more is cut, and said
QUERY_WAIT_S: Final = 15  # for a loader that is being started again
WAKE_PAUSE_S: Final = 0.005  # between two looks of the loader into the ledger
LOAD_ATTEMPTS_MAX: Final = 3  # that run out of memory or end the loader; then a file is set aside
LOAD_CLAIM_BYTES: Final = 1024 * 1024  # a larger file's attempts are recorded before each
LOAD_REFUSED_MAX: Final = 1_000  # refused landings kept for a definition that allows them
UNCLAIMED_S: Final = 0.5  # how long landings that no pipe covers are gathered for one commit
ACCEPT_PAUSE_S: Final = 0.05  # after running out of descriptors
CHILD_END_S: Final = 5  # a child that was told to end, before it is killed
HEARTBEAT_S_MAX: Final = 30  # a worker reports twice a second
RESTART_DELAY_S_MAX: Final = 10  # children that die again and again
LOCK_TRIES: Final = 6  # for the run lock, 20 ms apart
