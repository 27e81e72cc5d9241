"""Where this gateway answers otherwise than AWS Transfer: one table, and the switch that undoes it.

Where AWS documents a behaviour it is kept. Where AWS merely has a limitation the better thing is
done, and ``up --like-aws`` does as AWS does, to rehearse what a supplier will meet there. A row
whose ``switched`` is False holds either way: nobody could rehearse anything by losing it.

``docs/reference/deviations.md`` is this table: ``python -m feedgate.files.deviations`` prints it.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Final

__all__ = ["DEVIATIONS", "Deviation", "Fidelity", "page"]


@dataclass(frozen=True, slots=True)
class Deviation:
    """One difference. ``name`` is what code asks by; ``switched``: ``--like-aws`` undoes it.

    ``through`` names the row by whose switch this one is undone, too.
    """

    name: str
    aws: str
    ours: str
    reason: str
    switched: bool = True
    through: str = ""


# fmt: off
DEVIATIONS: Final = (
    Deviation(
        "extensions",
        "SFTP version 3 without extensions (User Guide, transfer-file: `df` says that the server"
        " does not support statvfs)",
        "`limits@openssh.com`, `posix-rename@openssh.com`, `fsync@openssh.com`,"
        " `statvfs@openssh.com`, `copy-data` and `check-file` are offered, and each works",
        "larger packets are faster; a client can take a name over at once, copy without sending"
        " again, and verify what it sent",
    ),
    Deviation(
        "rename-over-file",
        "a rename never takes the name of an existing file (User Guide, transfer-file)",
        "RENAME does not either, as the SFTP draft says; `posix-rename@openssh.com`, which"
        " OpenSSH's client uses where it is offered, replaces the file in one transaction",
        "uploads under a temporary name that are renamed into place must work the second time, too",
        through="extensions",
    ),
    Deviation(
        "directory-rename",
        "status 8, `Cannot rename a directory`",
        "a directory of up to 1,000 objects is renamed in one transaction, each object judged;"
        " a larger one is refused with status 8 and the reason in the log",
        "to tidy up is not a reason to send everything again",
    ),
    Deviation(
        "atomic-rename",
        "CopyObject, then DeleteObject: both names can be seen in between, or stay",
        "one transaction: one of the names, never both and never none",
        "there is one index",
        switched=False,
    ),
    Deviation(
        "setstat",
        "SETSTAT and FSETSTAT: status 8, `SETSTAT unsupported`, unless the server's SetStatOption"
        " is ENABLE_NO_OP (API, ProtocolDetails)",
        "accepted whatever the SetStatOption says: a time is kept as the object's metadata"
        " `mtime`, lands and loads nothing, and needs `s3:PutObject`; a size truncates or extends,"
        " as a new version; owners and modes have no effect",
        "clients set times after an upload, and report one that succeeded as failed",
    ),
    Deviation(
        "partial-upload",
        "when a connection ends before CLOSE, what was received is stored as the object, with a"
        " PARTIAL_CLOSE event (User Guide, transfer-file)",
        "nothing becomes visible, and an object of that name stays; the event is the same."
        " With `--like-aws` the object is stored, its receipt says partial, and no pipe loads it",
        "a half file under its final name is taken for a whole one",
    ),
    Deviation(
        "missing-key",
        "a policy that allows `s3:ListBucket` only under a prefix turns \"no such file\" into"
        " \"permission denied\": S3 tells that a key is missing only to who may list the bucket"
        " (S3 API, HeadObject)",
        "who may list the key itself is told what the listing says",
        "clients look whether a file is there before they send it, and give up on a refusal",
    ),
    Deviation(
        "read-write-open",
        "OPEN for reading and writing: status 8, `Cannot open file in mode: CREATE|READ|WRITE`",
        "accepted; reads see what the handle wrote, over the object's bytes unless it was"
        " truncated; CLOSE makes a new version, and is refused if another landed meanwhile."
        " Keeping bytes of an object needs the right to read it",
        "Go, .NET and sshfs open files so, to send them and to change them",
    ),
    Deviation(
        "resume",
        "an upload cannot be resumed or appended to (User Guide, transfer-file, advises against"
        " WinSCP's temporary names)",
        "the same user resumes, with APPEND or at an offset, for 24 hours: where no object of that"
        " name is visible, STAT tells him, and nobody else, where to go on. With an older object"
        " there STAT tells of the object, and a resume of the newer file is refused rather than"
        " joined to the older one's bytes. Less than 64 KiB is not kept. Objects can be appended"
        " to. Nothing is visible before CLOSE",
        "large files over bad lines",
    ),

    Deviation(
        "passwords",
        "service-managed users have SSH keys only; SftpAuthenticationMethods is for custom identity"
        " providers (API, IdentityProviderDetails)",
        "`feedgate user password` gives one user a password, alone (PUBLIC_KEY_OR_PASSWORD) or"
        " after a key (PUBLIC_KEY_AND_PASSWORD); without one nothing changes",
        "some suppliers' programs know nothing else",
        switched=False,
    ),
    Deviation(
        "revocation",
        "a change of user or policy holds from the next connection on",
        "a user or key that is removed, disabled or expired ends its sessions within seconds;"
        " a changed role or folder ends them, a changed session policy binds them",
        "who takes access away wants it gone",
        switched=False,
    ),
    Deviation(
        "key-options",
        "a key body holds no options (API, ImportSshPublicKey)",
        "`from=` and `expiry-time=` before a key are honoured, others refused by name",
        "a key that works from one network, until one day, is worth less to a thief",
        switched=False,
    ),
    Deviation(
        "address-lists",
        "addresses are restricted by a VPC endpoint's security groups",
        "tags of the server and of users: `feedgate:allowedCidrs`, `feedgate:deniedCidrs`; of users"
        " also `feedgate:expiresAt`",
        "there is no VPC here",
        switched=False,
    ),
    Deviation(
        "banner",
        "the server's first line is `SSH-2.0-AWS_SFTP_1.2` (captures of 2025 and 2026)",
        "`SSH-2.0-feedgate`",
        "a server says what it is, and no version that would help an attacker",
    ),
    Deviation(
        "security-policy",
        "a server that a template creates without SecurityPolicyName gets"
        " `TransferSecurityPolicy-2018-11` (User Guide, security-policies)",
        "`Feedgate-2026-11`; AWS's policies by their names, byte for byte",
        "the oldest policy is no default for a new server",
    ),
    Deviation(
        "opendir",
        "what makes OPENDIR fail rather than READDIR is not documented",
        "OPENDIR is judged by the role's policies alone, READDIR by the role session's:"
        " role without rights on the KMS key → refused at OPENDIR, session policy without → at"
        " READDIR, as suppliers have reported it",
        "the reports are all there is to go by",
        switched=False,
    ),
    Deviation(
        "folder-heads",
        "without DirectoryListingOptimization a listing sends HeadObject for each folder in it,"
        " and one refusal fails the whole listing",
        "a listing asks for its own directory alone, as AWS does with the optimisation",
        "`ls` over 10,000 folders takes AWS minutes (User Guide, configure-storage)",
        switched=False,
    ),
    Deviation(
        "root-marker",
        "without DirectoryListingOptimization the target of a mapping must exist as a zero-byte"
        " object",
        "a mapping's target always exists",
        "a new supplier's first `ls` shows an empty directory and not an error",
        switched=False,
    ),
    Deviation(
        "file-hides-directory",
        "not documented; S3 keeps `a` and `a/b` side by side, and a client then sees one of them",
        "a file is not written or renamed to the name of a directory, nor a directory made with"
        " the name of a file; what another tool has put side by side stays and can be replaced",
        "a supplier could not reach, list or remove what the file hides",
        switched=False,
    ),
    Deviation(
        "temporary-names",
        "an object is an object: Snowpipe loads `orders.csv.filepart` where a pipe covers it",
        "names of unfinished uploads (`*.filepart`, `*.part`, `*.tmp`, `.~*`, or those of the"
        " server's tag `feedgate:temporaryNames`) land and are offered to pipes when renamed",
        "half a file must not become rows, and a renamed one must",
        switched=False,
    ),
    Deviation(
        "quota",
        "none for a user; 5 TiB for an object",
        "none unless the user's tags `feedgate:quotaBytes` and `feedgate:maxFileBytes` set one;"
        " beyond it status 4, `Failure`",
        "a supplier's loop must not fill the disk of all",
        switched=False,
    ),
    Deviation(
        "live-policies",
        "a session keeps the policies that it began with (User Guide, users-policies-session)",
        "a changed policy, and a disabled user or removed key, counts in open sessions within"
        " seconds",
        "who withdraws access means now",
        switched=False,
    ),
)
# fmt: on

_BY_NAME: Final = {row.name: row for row in DEVIATIONS}


@dataclass(frozen=True, slots=True)
class Fidelity:
    """Which side of the table this run is on.

    ``setstat_no_op`` is the server's SetStatOption ENABLE_NO_OP, which matters on AWS's side only.
    """

    like_aws: bool = False
    setstat_no_op: bool = False

    def ours(self, name: str) -> bool:
        """Whether to do the better thing of that row."""
        assert _BY_NAME[name].switched, f"`{name}` holds either way"
        return not self.like_aws


def page() -> str:
    """The table as a page of the documentation."""
    lines = [
        "# Deviations from AWS Transfer Family",
        "",
        "<!-- made by `python -m feedgate.files.deviations`; edit the table in that module -->",
        "",
        "Where AWS documents what a supplier or an operator sees, feedgate does the same. These",
        "are the differences, and there are no others that we know of. Decisions of IAM and KMS",
        "have no row: they equal AWS's.",
        "",
        "`feedgate up --like-aws` takes the AWS side of every row that says so, for rehearsing",
        "what a supplier will meet there. `feedgate status` shows which side a gateway is on.",
        "",
        "| name | AWS Transfer | feedgate | why | `--like-aws` |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in DEVIATIONS:
        cells = [row.name, row.aws, row.ours, row.reason, "as AWS" if row.switched else "the same"]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(page())
