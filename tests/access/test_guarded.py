"""A bucket behind the judge, over real storage."""

from __future__ import annotations

from typing import Any

import pytest

from feedgate.access.guarded import GuardedBucket, guarded_buckets
from feedgate.access.principals import Operator
from feedgate.errors import AccessDenied


def allow(action: Any, resource: Any) -> dict[str, Any]:
    """An Allow statement."""
    return {"Effect": "Allow", "Action": action, "Resource": resource}


def test_a_supplier_writes_reads_lists_moves_and_deletes_at_home(site: Any) -> None:
    """Every call of a bucket passes for who may do it."""
    judge = site.judge()
    bucket = site.bucket(site.supplier(judge), judge)
    database = site.database()
    upload = bucket.begin_upload("bob/a", owner="s")
    upload.write(0, [b"hello"])
    staged = upload.finish()
    info = database.write_now(lambda tx: bucket.publish(tx, staged))
    assert info.key == "bob/a"
    assert bucket.head("bob/a") == info
    assert [item.key for item in bucket.list("bob/", delimiter="/").objects] == ["bob/a"]
    reader = bucket.open("bob/a")
    assert reader is not None
    assert reader.pread(0, 10) == b"hello"
    reader.close()
    assert database.write_now(lambda tx: bucket.move(tx, "bob/a", "bob/b")).key == "bob/b"
    assert database.write_now(lambda tx: bucket.delete(tx, "bob/b")) is True
    assert bucket.head("bob/b") is None
    assert all(event.effect.value == "allow" for event in site.events)


def test_nothing_of_another_supplier_is_reached_by_any_call(site: Any) -> None:
    """Every call is refused outside the supplier's prefix, whether the object exists or not."""
    site.put("eve/secret", b"secret")
    judge = site.judge()
    bucket = site.bucket(site.supplier(judge), judge)
    database = site.database()
    calls = [
        bucket.head,
        bucket.open,
        lambda key: bucket.begin_upload(key, owner="s"),
        bucket.list,
        lambda key: bucket.list(key, delimiter="/"),
        lambda key: database.write_now(lambda tx: bucket.delete(tx, key)),
        lambda key: database.write_now(lambda tx: bucket.move(tx, key, "bob/x")),
        lambda key: bucket.require("stat", key),
    ]
    for call in calls:
        for key in ("eve/secret", "eve/missing", "eve/", "bob2/x", "bobx", ""):
            with pytest.raises(AccessDenied):
                call(key)
    site.put("bob/mine")
    with pytest.raises(AccessDenied):
        database.write_now(lambda tx: bucket.move(tx, "bob/mine", "eve/gift"))
    assert site.storage().head("eve/secret").size == 6
    assert site.storage().head("bob/mine") is not None


def test_a_missing_key_is_told_only_to_who_may_list(site: Any, names: Any) -> None:
    """S3 answers 404 with s3:ListBucket and 403 without, so that names cannot be probed."""
    judge = site.judge()
    bucket = site.bucket(site.supplier(judge), judge)
    assert bucket.head("bob/missing") is None
    assert bucket.open("bob/missing") is None
    site.session = (names["s3_session"][1], *names["use_key"])
    judge = site.judge()
    blind = site.bucket(site.supplier(judge), judge)
    for call in (blind.head, blind.open):
        with pytest.raises(AccessDenied, match="s3:ListBucket"):
            call("bob/missing")


def test_kms_is_asked_about_objects_that_exist(site: Any, names: Any) -> None:
    """A missing key needs no kms:Decrypt to be missing; an existing one does to be opened."""
    site.put("bob/there")
    site.session = names["s3_session"]
    judge = site.judge()
    bucket = site.bucket(site.supplier(judge), judge)
    assert bucket.head("bob/missing") is None
    for call in (bucket.head, bucket.open):
        with pytest.raises(AccessDenied, match="kms:Decrypt"):
            call("bob/there")


def test_an_objects_own_kms_key_decides(site: Any, names: Any) -> None:
    """An object that another KMS key wraps is judged by that key's policy, not by the bucket's."""
    site.put("bob/old", kms_key_arn=names["spare_key"])
    site.put("bob/new")
    judge = site.judge()
    bucket = site.bucket(site.supplier(judge), judge)
    assert bucket.head("bob/new") is not None
    with pytest.raises(AccessDenied) as caught:
        bucket.head("bob/old")
    assert caught.value.decision.request.resource == names["spare_key"]


def test_a_refused_reader_is_closed(site: Any, names: Any) -> None:
    """Opening what may not be decrypted leaves no lease behind."""
    site.put("bob/big", b"x" * 200_000)
    site.session = names["s3_session"]
    judge = site.judge()
    storage = site.storage()
    opened: list[Any] = []

    class Watched:
        name = "land"

        def open(self, key: str) -> Any:
            opened.append(storage.open(key))
            return opened[-1]

    bucket = GuardedBucket(site.supplier(judge), judge, Watched())  # type: ignore[arg-type]
    with pytest.raises(AccessDenied):
        bucket.open("bob/big")
    with pytest.raises(Exception, match=r".") as caught:
        opened[0].pread(0, 10)
    assert not isinstance(caught.value, AccessDenied)


def test_directory_listing_reads_the_marker_and_a_plain_one_does_not(site: Any, names: Any) -> None:
    """READDIR needs the marker's s3:GetObject and kms:Decrypt, an existence test does not."""
    site.put("bob/a")
    site.session = names["s3_session"]
    judge = site.judge()
    bucket = site.bucket(site.supplier(judge), judge)
    assert bucket.list("bob/", max_keys=1).objects
    with pytest.raises(AccessDenied, match="kms:Decrypt"):
        bucket.list("bob/", delimiter="/")


def test_a_listing_is_judged_by_its_exact_prefix(site: Any, names: Any) -> None:
    """`bob` would list `bob2/` too, so who may list `bob/*` may not list `bob`."""
    own = {"StringLike": {"s3:prefix": "${transfer:UserName}/*"}}
    site.session = ({**names["s3_session"][0], "Condition": own}, *site.session[1:])
    site.put("bob2/secret")
    judge = site.judge()
    bucket = site.bucket(site.supplier(judge), judge)
    assert bucket.list("bob/").objects == ()
    for delimiter in ("", "/"):
        with pytest.raises(AccessDenied):
            bucket.list("bob", delimiter=delimiter)


def test_publish_is_judged_again(site: Any, names: Any) -> None:
    """A policy that changed while the bytes came in counts at CLOSE; nothing becomes visible."""
    judge = site.judge()
    bucket = site.bucket(site.supplier(judge), judge)
    upload = bucket.begin_upload("bob/a", owner="s")
    upload.write(0, [b"x"])
    staged = upload.finish()
    site.role = names["s3_role"]
    judge.take_up(site.stack())
    with pytest.raises(AccessDenied, match="kms:GenerateDataKey"):
        site.database().write_now(lambda tx: bucket.publish(tx, staged))
    assert site.storage().head("bob/a") is None
    assert site.events[-1].operation == "close"


def test_an_upload_is_audited_once(site: Any) -> None:
    """What was audited when the upload began is not audited again at CLOSE."""
    judge = site.judge()
    bucket = site.bucket(site.supplier(judge), judge)
    site.events.clear()
    upload = bucket.begin_upload("bob/a", owner="s")
    staged = upload.finish()
    site.database().write_now(lambda tx: bucket.publish(tx, staged))
    assert [event.action for event in site.events] == ["s3:PutObject", "kms:GenerateDataKey"]


def test_the_loader_reads_as_the_integrations_role(site: Any, names: Any) -> None:
    """The loader needs s3:GetObject and kms:Decrypt of its own role."""
    site.put("bob/a", b"1,2\n")
    judge = site.judge()
    reader = site.bucket(site.loader(judge), judge).open("bob/a")
    assert reader is not None
    reader.close()
    site.snowflake = site.snowflake[:2]
    judge = site.judge()
    with pytest.raises(AccessDenied) as caught:
        site.bucket(site.loader(judge), judge).open("bob/a")
    assert caught.value.decision.silent == ("identity",)
    assert site.events[-1].stage == "load"


def test_the_loader_never_writes(site: Any) -> None:
    """A write by the loader is a fault of ours, not an operating error."""
    judge = site.judge()
    bucket = site.bucket(site.loader(judge), judge)
    with pytest.raises(AssertionError):
        bucket.begin_upload("bob/a", owner="loader")


def test_the_operator_uses_every_bucket_and_is_audited(site: Any, operator: Operator) -> None:
    """The account's root needs no policy of S3; each use names the person."""
    site.put("bob/a")
    judge = site.judge()
    bucket = guarded_buckets(operator, judge, {"land": site.storage()})["land"]
    assert bucket.head("bob/a") is not None
    assert bucket.list("", delimiter="/").common_prefixes == ("bob/",)
    assert bucket.head("nothing") is None
    assert {event.user for event in site.events} == {"root"}
    assert {event.principal for event in site.events} == {"arn:aws:iam::000000000000:root"}


def test_upload_only_recipe(site: Any) -> None:
    """AWS's upload-only policy: write anything, read nothing but directories."""
    site.session = None
    site.role = (
        allow(["s3:PutObject", "s3:GetObject", "s3:GetObjectVersion"], "arn:aws:s3:::land/*"),
        allow("s3:ListBucket", "arn:aws:s3:::land"),
        {
            "Effect": "Deny",
            "Action": ["s3:GetObject", "s3:GetObjectVersion"],
            "NotResource": ["arn:aws:s3:::land/*/", "arn:aws:s3:::land/*.filepart"],
        },
        site.role[2],
    )
    site.put("bob/a")
    judge = site.judge()
    bucket = site.bucket(site.supplier(judge), judge)
    bucket.begin_upload("bob/b", owner="s").abort()
    assert bucket.list("bob/", delimiter="/").objects
    with pytest.raises(AccessDenied, match="is denied: Deny in"):
        bucket.open("bob/a")


def test_a_former_kms_key_is_asked_of_iam(site: Any, names: Any) -> None:
    """An object under a KMS key that left the stack opens to the root, and to a role that names it.

    As on AWS, where the key exists on: a policy that names only the bucket's new key is no help.
    """
    from dataclasses import replace

    former = names["spare_key"]
    site.put("bob/old", b"old", kms_key_arn=former)
    use_former = {"Effect": "Allow", "Action": "kms:Decrypt", "Resource": former}
    for statements, allowed in (((), False), ((use_former,), True)):
        site.role = (*names["s3_role"], *statements)
        site.session = (*names["s3_session"], *statements)
        judge = site.judge()
        stack = judge.stack
        kept = {arn: key for arn, key in stack.kms_keys.items() if arn != former}
        judge.take_up(replace(stack, kms_keys=kept))
        bucket = site.bucket(site.supplier(judge), judge)
        if allowed:
            reader = bucket.open("bob/old")
            assert reader is not None
            reader.close()
        else:
            with pytest.raises(AccessDenied) as caught:
                bucket.open("bob/old")
            assert caught.value.decision.request.resource == former
        reader = site.bucket(Operator(stack.account, "me"), judge).open("bob/old")
        assert reader is not None
        reader.close()
