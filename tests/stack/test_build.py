"""Templates become stacks: ids, ARNs, relations, and every refusal at its place."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from feedgate.errors import DefinitionError, Finding, Source
from feedgate.stack.build import build
from feedgate.stack.resources import HomeDirectoryMapping, Stack
from feedgate.stack.template import Template, parse_template

VECTORS = Path(__file__).resolve().parents[1] / "vectors"

TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"Service": "transfer.amazonaws.com"},
            "Action": "sts:AssumeRole",
        }
    ],
}
ALLOW = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}],
}
KEY_POLICY = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "kms:*", "Resource": "*"}],
}
SSE_KMS = {
    "ServerSideEncryptionConfiguration": [
        {
            "ServerSideEncryptionByDefault": {
                "SSEAlgorithm": "aws:kms",
                "KMSMasterKeyID": {"Ref": "Key"},
            },
            "BucketKeyEnabled": True,
        }
    ]
}
RESOURCES: dict[str, Any] = {
    "Key": {"Type": "AWS::KMS::Key", "Properties": {"KeyPolicy": KEY_POLICY}},
    "Bucket": {
        "Type": "AWS::S3::Bucket",
        "Properties": {"BucketName": "landing", "BucketEncryption": SSE_KMS},
    },
    "Role": {
        "Type": "AWS::IAM::Role",
        "Properties": {
            "AssumeRolePolicyDocument": TRUST,
            "Policies": [{"PolicyName": "all", "PolicyDocument": ALLOW}],
        },
    },
    "Server": {
        "Type": "AWS::Transfer::Server",
        "Properties": {"SecurityPolicyName": "TransferSecurityPolicy-2024-01"},
    },
    "User": {
        "Type": "AWS::Transfer::User",
        "Properties": {
            "ServerId": {"Fn::GetAtt": ["Server", "ServerId"]},
            "UserName": "acme",
            "Role": {"Fn::GetAtt": ["Role", "Arn"]},
            "HomeDirectoryType": "LOGICAL",
            "HomeDirectoryMappings": [{"Entry": "/", "Target": "/landing/acme"}],
        },
    },
}


def template_of(**changes: Any) -> Template:
    """The stack above; a keyword `Bucket__AccessControl` sets a property, `Bucket` a resource."""
    resources = copy.deepcopy(RESOURCES)
    body: dict[str, Any] = {"Resources": resources}
    for name, value in changes.items():
        logical_id, _, prop = name.partition("__")
        if logical_id == "Outputs":
            body["Outputs"] = value
        elif prop:
            resources[logical_id]["Properties"][prop] = value
        else:
            resources[logical_id] = value
    return parse_template(json.dumps(body, indent=1), file="template.json")


def stack_of(**changes: Any) -> Stack:
    """The stack above with changes, built."""
    return build(template_of(**changes), name="landing")


def faults_of(**changes: Any) -> tuple[Finding, ...]:
    """The faults of the stack above with changes."""
    with pytest.raises(DefinitionError) as caught:
        stack_of(**changes)
    return caught.value.findings


def from_vector(name: str, **options: Any) -> Stack:
    """A stack out of a file of tests/vectors."""
    template = parse_template((VECTORS / name).read_text(), file=name)
    return build(template, name="gateway", **options)


# -- what runs ----------------------------------------------------------------------------------


def test_resources_are_typed_and_joined() -> None:
    """Server, user, role, bucket and KMS key refer to each other by id, ARN and name."""
    stack = stack_of()
    user = stack.users["acme"]
    assert stack.server.arn.endswith(f":server/{stack.server.server_id}")
    assert user.arn == (
        f"arn:aws:transfer:us-east-1:000000000000:user/{stack.server.server_id}/acme"
    )
    assert user.home_directory_mappings == (HomeDirectoryMapping("/", "/landing/acme"),)
    assert [policy.name for policy in stack.roles[user.role_arn].policies] == ["all"]
    bucket = stack.buckets["landing"]
    assert bucket.arn == "arn:aws:s3:::landing"
    assert bucket.kms_key_arn in stack.kms_keys
    assert bucket.bucket_key_enabled


def test_ids_have_the_forms_of_aws() -> None:
    """Derived ids look as AWS's: `s-` and 17 hex, a UUID, `AROA…`, names of the stack's."""
    stack = stack_of(Bucket__BucketName={"Ref": "AWS::NoValue"}, User={"Type": "AWS::SNS::Topic"})
    (bucket,), (role,), (key,) = (
        list(group.values()) for group in (stack.buckets, stack.roles, stack.kms_keys)
    )
    assert stack.server.server_id[:2] == "s-"
    assert len(bytes.fromhex("0" + stack.server.server_id[2:])) == 9
    assert [len(part) for part in key.key_id.split("-")] == [8, 4, 4, 4, 12]
    assert role.unique_id.startswith("AROA")
    assert len(role.unique_id) == 21
    assert role.role_name.startswith("landing-Role-")
    assert bucket.name.startswith("landing-bucket-")
    assert bucket.name == bucket.name.lower()


def test_ids_are_the_same_each_time_and_differ_by_place() -> None:
    """The same definition has the same ids; another account, region or stack has others."""
    template = template_of()
    ids = {
        build(template, name=name, account=account, region=region).server.server_id
        for name, account, region in [
            ("a", "000000000000", "us-east-1"),
            ("a", "000000000000", "us-east-1"),
            ("b", "000000000000", "us-east-1"),
            ("a", "000000000001", "us-east-1"),
            ("a", "000000000000", "eu-west-1"),
        ]
    }
    assert len(ids) == 4


@pytest.mark.parametrize(
    ("region", "partition", "suffix"),
    [
        ("eu-west-1", "aws", "com"),
        ("cn-north-1", "aws-cn", "com.cn"),
        ("us-gov-west-1", "aws-us-gov", "com"),
    ],
)
def test_partitions(region: str, partition: str, suffix: str) -> None:
    """The region decides partition and URL suffix, in ARNs and in pseudo parameters."""
    outputs = {"O": {"Value": {"Fn::Sub": "${AWS::Partition} ${AWS::URLSuffix}"}}}
    stack = build(template_of(Outputs=outputs), name="x", region=region)
    assert stack.outputs == {"O": f"{partition} amazonaws.{suffix}"}
    assert stack.server.arn.startswith(f"arn:{partition}:transfer:{region}:000000000000:server/s-")


@pytest.mark.parametrize(
    ("node", "value"),
    [
        pytest.param({"Ref": "Server"}, "SERVER_ARN", id="Ref of a server is its ARN"),
        pytest.param({"Fn::GetAtt": ["Server", "ServerId"]}, "SERVER_ID", id="ServerId"),
        pytest.param({"Fn::GetAtt": ["Server", "Arn"]}, "SERVER_ARN", id="server Arn"),
        pytest.param({"Ref": "User"}, "acme", id="Ref of a user is its name"),
        pytest.param({"Fn::GetAtt": ["User", "ServerId"]}, "SERVER_ID", id="user ServerId"),
        pytest.param({"Ref": "Bucket"}, "landing", id="Ref of a bucket is its name"),
        pytest.param(
            {"Fn::GetAtt": "Bucket.RegionalDomainName"},
            "landing.s3.us-east-1.amazonaws.com",
            id="bucket domain",
        ),
        pytest.param({"Ref": "Key"}, "KEY_ID", id="Ref of a KMS key is its id"),
        pytest.param({"Fn::GetAtt": ["Key", "Arn"]}, "KEY_ARN", id="key Arn"),
        pytest.param({"Ref": "Role"}, "ROLE_NAME", id="Ref of a role is its name"),
        pytest.param({"Fn::GetAtt": ["Role", "RoleId"]}, "ROLE_ID", id="RoleId"),
        pytest.param({"Ref": "Alias"}, "alias/x", id="Ref of an alias is its name"),
        pytest.param(
            {"Ref": "Managed"}, "arn:aws:iam::000000000000:policy/p/m", id="Ref of a managed policy"
        ),
        pytest.param({"Ref": "Logs"}, "/x", id="Ref of a log group is its name"),
        pytest.param(
            {"Fn::GetAtt": "Logs.Arn"},
            "arn:aws:logs:us-east-1:000000000000:log-group:/x:*",
            id="log group Arn",
        ),
        pytest.param({"Ref": "Topic"}, "arn:aws:sns:us-east-1:000000000000:t", id="Ref of a topic"),
        pytest.param(
            {"Ref": "Queue"},
            "https://sqs.us-east-1.amazonaws.com/000000000000/q",
            id="Ref of a queue",
        ),
        pytest.param(
            {"Fn::GetAtt": "Queue.Arn"}, "arn:aws:sqs:us-east-1:000000000000:q", id="queue"
        ),
        pytest.param({"Ref": "Record"}, "sftp.example.com", id="Ref of a record is its name"),
    ],
)
def test_ref_and_get_att_by_type(node: Any, value: str) -> None:
    """Ref and Fn::GetAtt give what each type's page says."""
    stack = stack_of(
        Alias={
            "Type": "AWS::KMS::Alias",
            "Properties": {"AliasName": "alias/x", "TargetKeyId": {"Ref": "Key"}},
        },
        Managed={
            "Type": "AWS::IAM::ManagedPolicy",
            "Properties": {"PolicyDocument": ALLOW, "Path": "/p/", "ManagedPolicyName": "m"},
        },
        Logs={"Type": "AWS::Logs::LogGroup", "Properties": {"LogGroupName": "/x"}},
        Topic={"Type": "AWS::SNS::Topic", "Properties": {"TopicName": "t"}},
        Queue={"Type": "AWS::SQS::Queue", "Properties": {"QueueName": "q"}},
        Record={
            "Type": "AWS::Route53::RecordSet",
            "Properties": {"Name": "sftp.example.com", "Type": "CNAME"},
        },
        Outputs={"O": {"Value": node}},
    )
    (role,), (key,) = list(stack.roles.values()), list(stack.kms_keys.values())
    names = {
        "SERVER_ARN": stack.server.arn,
        "SERVER_ID": stack.server.server_id,
        "KEY_ID": key.key_id,
        "KEY_ARN": key.arn,
        "ROLE_NAME": role.role_name,
        "ROLE_ID": role.unique_id,
    }
    assert stack.outputs["O"] == names.get(value, value)


def test_cdk_output_runs() -> None:
    """What `cdk synth` prints runs: joined ARNs, separate policies, Rules, CDK metadata."""
    stack = from_vector("cfn_cdk.json")
    user = stack.users["jeffrey_aven"]
    assert [policy.name for policy in stack.roles[user.role_arn].policies] == [
        "RoleDefaultPolicy5FFB7DAB"
    ]
    (bucket,) = stack.buckets.values()
    assert user.home_directory_mappings[0].target == f"/{bucket.name}/${{transfer:UserName}}"
    assert stack.outputs == {"BucketName": bucket.name}
    ignored = {finding.message.split(" ")[0] for finding in stack.findings}
    assert ignored == {"`Rules`", "`AWS::CDK::Metadata`"}


def test_yaml_with_short_tags_runs() -> None:
    """A YAML template with every common short tag runs, and says the same as the long form."""
    stack = from_vector("cfn_short_tags.yaml")
    (key,) = stack.kms_keys.values()
    assert (key.aliases, key.pending_window_days, key.enabled) == (("alias/gateway-dev",), 7, True)
    bucket = stack.buckets["acme-000000000000"]
    assert (bucket.kms_key_arn, bucket.bucket_key_enabled) == (key.arn, True)
    assert stack.server.tags == {"suppliers": "acme+globex", "count": "2 of ${Max}"}
    assert stack.server.pre_authentication_login_banner == "a test server"
    user = stack.users["jeffrey_aven"]
    assert user.home_directory == "/acme-000000000000/home/jeffrey_aven"
    assert json.loads(user.policy or "")["Statement"][0]["Resource"] == (
        "arn:aws:s3:::acme-000000000000/${transfer:HomeFolder}/*"
    )
    assert stack.outputs == {"Encoded": "YWJj", "Banner": "dev"}


def test_parameters_change_the_stack() -> None:
    """The same template under other parameters takes its other branch."""
    stack = from_vector("cfn_short_tags.yaml", parameters={"Stage": "prod"})
    assert stack.server.security_policy_name == "TransferSecurityPolicy-2025-03"
    assert stack.server.pre_authentication_login_banner is None
    assert stack.outputs["OnlyProd"] == "1"
    assert stack.parameters == {"Stage": "prod", "Suppliers": "acme, globex"}


def test_physical_ids_win() -> None:
    """A resource answers to the id that the operator gives, as an id or as its ARN."""
    key_id = "1234abcd-12ab-34cd-56ef-1234567890ab"
    ids = {
        "Bucket": "real-bucket",
        "Server": "s-0123456789abcdef0",
        "Key": f"arn:aws:kms:us-east-1:000000000000:key/{key_id}",
        "Role": "real-role",
    }
    mappings = [{"Entry": "/", "Target": {"Fn::Sub": "/${Bucket}/acme"}}]
    stack = build(
        template_of(User__HomeDirectoryMappings=mappings), name="landing", physical_ids=ids
    )
    assert list(stack.buckets) == ["real-bucket"]
    assert stack.buckets["real-bucket"].kms_key_arn == ids["Key"]
    assert stack.server.server_id == "s-0123456789abcdef0"
    assert list(stack.roles) == ["arn:aws:iam::000000000000:role/real-role"]


@pytest.mark.parametrize(
    ("ids", "fault"),
    [
        ({"Gone": "x"}, "no resource `Gone` to give a physical id"),
        ({"User": "x"}, "a `AWS::Transfer::User` takes no physical id: `User`"),
        ({"Server": "sftp"}, "given for `Server` must be `s-` and 17 hex digits"),
        ({"Bucket": "Not_A_Bucket"}, "given for `Bucket` must be a bucket name"),
        (
            {"Key": "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"},
            "would be `arn:aws:kms:us-east-1:000000000000:key/",
        ),
    ],
)
def test_physical_ids_that_do_not_fit(ids: Mapping[str, str], fault: str) -> None:
    """A physical id must name a resource, and have its form, account and region."""
    with pytest.raises(DefinitionError) as caught:
        build(template_of(), name="landing", physical_ids=ids)
    assert any(fault in finding.message for finding in caught.value.findings)


def test_policies_gather_at_the_role() -> None:
    """Inline, separate, attached and AWS's own policies are the role's, in that order."""
    policy = {"PolicyDocument": ALLOW, "PolicyName": "separate", "Roles": [{"Ref": "Role"}]}
    stack = stack_of(
        Separate={"Type": "AWS::IAM::Policy", "Properties": policy},
        Single={
            "Type": "AWS::IAM::RolePolicy",
            "Properties": {
                "PolicyDocument": ALLOW,
                "PolicyName": "one",
                "RoleName": {"Ref": "Role"},
            },
        },
        Managed={
            "Type": "AWS::IAM::ManagedPolicy",
            "Properties": {"PolicyDocument": ALLOW, "ManagedPolicyName": "managed"},
        },
        Role__ManagedPolicyArns=[
            {"Ref": "Managed"},
            "arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess",
            "arn:aws:iam::aws:policy/service-role/AWSTransferLoggingAccess",
        ],
    )
    (role,) = stack.roles.values()
    assert [one.name for one in role.policies] == [
        "all",
        "managed",
        "AmazonS3ReadOnlyAccess",
        "service-role/AWSTransferLoggingAccess",
        "separate",
        "one",
    ]


@pytest.mark.parametrize(
    "reference",
    [
        pytest.param(lambda stack: stack.kms_keys, id="ARN"),
        pytest.param(lambda stack: [key.key_id for key in stack.kms_keys.values()], id="id"),
        pytest.param(lambda _: ["alias/k"], id="alias"),
        pytest.param(lambda _: ["arn:aws:kms:us-east-1:000000000000:alias/k"], id="alias ARN"),
    ],
)
def test_a_bucket_finds_its_kms_key(reference: Callable[[Stack], Any]) -> None:
    """KMSMasterKeyID may be an id, an ARN, an alias or an alias's ARN."""
    alias = {"AliasName": "alias/k", "TargetKeyId": {"Fn::GetAtt": ["Key", "Arn"]}}
    (wanted,) = reference(stack_of())
    encryption = copy.deepcopy(SSE_KMS)
    rule = encryption["ServerSideEncryptionConfiguration"][0]["ServerSideEncryptionByDefault"]
    assert isinstance(rule, dict)
    rule["KMSMasterKeyID"] = wanted
    stack = stack_of(
        Bucket__BucketEncryption=encryption, Alias={"Type": "AWS::KMS::Alias", "Properties": alias}
    )
    assert stack.buckets["landing"].kms_key_arn in stack.kms_keys


def test_a_key_without_policy_gets_the_default_one() -> None:
    """KMS gives a key without KeyPolicy one that hands the decision to IAM."""
    stack = stack_of(Key={"Type": "AWS::KMS::Key"})
    (key,) = stack.kms_keys.values()
    assert key.policy.name == "Key/KeyPolicy"


# -- what is refused ----------------------------------------------------------------------------


def mapping(*pairs: tuple[str, str]) -> list[dict[str, str]]:
    """HomeDirectoryMappings of these entries and targets."""
    return [{"Entry": entry, "Target": target} for entry, target in pairs]


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        pytest.param({"Server__Domain": "EFS"}, "`Domain` is `EFS`", id="EFS"),
        pytest.param({"Server__Protocols": ["SFTP", "FTPS"]}, "`SFTP, FTPS`: only SFTP", id="FTPS"),
        pytest.param(
            {"Server__IdentityProviderType": "AWS_LAMBDA"},
            "`AWS_LAMBDA`: only SERVICE",
            id="lambda",
        ),
        pytest.param(
            {"Server__SecurityPolicyName": "TransferSecurityPolicy-1999-01"},
            "no such security policy",
            id="security policy",
        ),
        pytest.param({"Server__WorkflowDetails": {}}, "workflows are not run", id="workflow"),
        pytest.param(
            {"Bucket__VersioningConfiguration": {"Status": "Enabled"}},
            "`Status` is `Enabled`: versions of objects are not kept yet",
            id="versioning",
        ),
        pytest.param({"Bucket__ObjectLockEnabled": True}, "`ObjectLockEnabled`", id="object lock"),
        pytest.param(
            {"Bucket__ObjectLockConfiguration": {}},
            "`ObjectLockConfiguration` is refused",
            id="lock",
        ),
        pytest.param({"Role__PermissionsBoundary": "x"}, "boundaries are not", id="boundary"),
        pytest.param({"Key__KeySpec": "RSA_2048"}, "`KeySpec` is `RSA_2048`", id="RSA KMS key"),
        pytest.param({"Key__MultiRegion": "true"}, "`MultiRegion` is `true`", id="multi-region"),
        pytest.param({"Key__PendingWindowInDays": 3}, "must lie between 7 and 30", id="window"),
        pytest.param({"Bucket__Colour": "red"}, "no such property: `Colour`", id="property"),
        pytest.param({"Bucket__BucketName": "A_b"}, "`A_b` is no bucket name", id="bucket name"),
        pytest.param({"Bucket__BucketName": 12}, "`12` is no bucket name", id="short bucket name"),
        pytest.param({"Lambda": {"Type": "AWS::Lambda::Function"}}, "is not run here", id="type"),
        pytest.param({"Odd-Id": {"Type": "AWS::SNS::Topic"}}, "is no logical id", id="logical id"),
        pytest.param({"Fn::ForEach::X": []}, "`Fn::ForEach::X` is not done here", id="ForEach"),
        pytest.param(
            {"Second": {"Type": "AWS::Transfer::Server"}}, "one server here", id="servers"
        ),
        pytest.param(
            {"Bucket": {"Type": "AWS::S3::Bucket", "Colour": 1}},
            "unknown attribute",
            id="attribute",
        ),
        pytest.param(
            {"Bucket": {"Type": "AWS::S3::Bucket", "DependsOn": "Gone"}},
            "`DependsOn` names no resource: `Gone`",
            id="DependsOn",
        ),
        pytest.param(
            {"Bucket": {"Type": "AWS::S3::Bucket", "DependsOn": [[]]}},
            "`DependsOn` names no resource",
            id="DependsOn list",
        ),
        pytest.param({"Bucket__BucketName": {}}, "`BucketName` must be text", id="name object"),
        pytest.param({"User__UserName": "x"}, "`x` is no user name", id="short user name"),
        pytest.param({"User__UserName": "root"}, "`root` is no user name", id="root"),
        pytest.param({"User__UserName": "../etc"}, "`../etc` is no user name", id="path"),
        pytest.param({"User__ServerId": {"Ref": "Server"}}, "is the server's ARN", id="ServerId"),
        pytest.param({"User__Role": "arn:aws:iam::1:role/x"}, "no role `arn:aws:iam::1", id="role"),
        pytest.param(
            {"User__SshPublicKeys": ["-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA"]},
            "this is a private SSH key",
            id="private key",
        ),
        pytest.param({"User__SshPublicKeys": ["AAAA"]}, "no SSH public key line", id="key line"),
        pytest.param(
            {"User__HomeDirectoryMappings": mapping(("/", "/landing/a"), ("/b", "/landing/b"))},
            "`Entry` `/` must be the only mapping",
            id="root mapping",
        ),
        pytest.param(
            {"User__HomeDirectoryMappings": mapping(("/a", "/landing/a"), ("/a/b", "/landing/b"))},
            "`Entry` `/a/b` overlaps `/a`",
            id="overlap",
        ),
        pytest.param(
            {"User__HomeDirectoryMappings": mapping(("/a", "/landing/a"), ("/a", "/landing/b"))},
            "`Entry` `/a` is mapped twice",
            id="twice",
        ),
        pytest.param(
            {"User__HomeDirectoryMappings": mapping(("/a", "/landing/a/"))},
            "`Target` `/landing/a/` must begin with `/`, not end with it",
            id="trailing slash",
        ),
        pytest.param(
            {"User__HomeDirectoryMappings": mapping(("a", "/landing/a"))},
            "`Entry` `a` must",
            id="entry",
        ),
        pytest.param(
            {"User__HomeDirectoryMappings": mapping(("/a", "/landing/../b"))},
            "and be plain",
            id="dots",
        ),
        pytest.param(
            {"User__HomeDirectoryMappings": mapping(("/a", "/landing/${transfer:HomeFolder}"))},
            "`${transfer:HomeFolder}` has no value in a mapping",
            id="variable",
        ),
        pytest.param(
            {"User__HomeDirectoryMappings": mapping(("/a", "/elsewhere/a"))},
            "no bucket `elsewhere` in this stack",
            id="bucket of a mapping",
        ),
        pytest.param(
            {"User__HomeDirectoryMappings": []}, "needs `HomeDirectoryMappings`", id="none"
        ),
        pytest.param(
            {
                "User__HomeDirectoryMappings": mapping(("/a", "/landing/a")),
                "User__HomeDirectory": "/b",
            },
            "`HomeDirectory` `/b` lies in no mapping",
            id="home outside",
        ),
        pytest.param({"User__HomeDirectoryType": "PATH"}, "need `HomeDirectoryType`", id="PATH"),
        pytest.param({"User__Policy": "{"}, "", id="session policy no JSON"),
        pytest.param({"User__Policy": {}}, "`Policy` must be text", id="session policy object"),
        pytest.param(
            {"User__Policy": json.dumps(ALLOW) + " " * 2048},
            "the session policy has",
            id="long policy",
        ),
        pytest.param(
            {"Role__ManagedPolicyArns": ["arn:aws:iam::aws:policy/AdministratorAccess"]},
            "AWS's managed policy `arn:aws:iam::aws:policy/AdministratorAccess` is not known",
            id="managed policy",
        ),
        pytest.param(
            {"Role__AssumeRolePolicyDocument": {"Statement": [{"Effect": "Maybe"}]}},
            "Effect",
            id="trust policy",
        ),
        pytest.param(
            {"Bucket__BucketEncryption": {"ServerSideEncryptionConfiguration": []}},
            "has one rule",
            id="no encryption rule",
        ),
    ],
)
def test_refusals(changes: Mapping[str, Any], fault: str) -> None:
    """What is wrong, or would be unsafe to ignore, is a fault with resource and line."""
    findings = faults_of(**changes)
    finding = next(finding for finding in findings if fault in finding.message)
    assert finding.source is not None
    assert finding.source.line > 0
    assert finding.resource is not None
    assert "PRIVATE KEY" not in str(finding)


@pytest.mark.parametrize(
    ("default", "fault"),
    [
        pytest.param({"SSEAlgorithm": "aws:kms"}, "AWS's own key `aws/s3`", id="aws/s3"),
        pytest.param({"SSEAlgorithm": "aws:kms:dsse"}, "once, not twice", id="dsse"),
        pytest.param(
            {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": "alias/x"},
            "no KMS key `alias/x`",
            id="alias",
        ),
        pytest.param(
            {"SSEAlgorithm": "AES256", "KMSMasterKeyID": {"Ref": "Key"}},
            "needs `SSEAlg",
            id="AES256",
        ),
    ],
)
def test_encryption_refusals(default: Mapping[str, Any], fault: str) -> None:
    """An encryption that cannot be done as said is refused, never done otherwise."""
    rule = {"ServerSideEncryptionConfiguration": [{"ServerSideEncryptionByDefault": default}]}
    findings = faults_of(Bucket__BucketEncryption=rule)
    assert any(fault in finding.message for finding in findings)


def test_all_faults_at_once_with_their_lines() -> None:
    """Faults of several resources are told together, each at its own line."""
    findings = faults_of(
        Server__Domain="EFS",
        User__UserName="root",
        Bucket__BucketName={"Ref": "Gone"},
        Role__Policies=[
            {"PolicyName": "p", "PolicyDocument": {"Statement": [{"Effect": "Maybe"}]}}
        ],
    )
    resources = {finding.resource for finding in findings}
    assert resources == {"Server", "User", "Bucket", "Role"}
    places = {(finding.source, finding.message) for finding in findings}
    assert len(places) == len(findings)


def test_circles_are_named() -> None:
    """Resources that refer to each other are refused with the way round."""
    name = {"Fn::Sub": "x-${Second}"}
    findings = faults_of(
        Bucket__BucketName=name,
        Second={"Type": "AWS::S3::Bucket", "Properties": {"BucketName": {"Ref": "Bucket"}}},
    )
    assert "in a circle: Bucket → Second → Bucket" in findings[0].message


def test_a_resource_may_not_refer_to_itself() -> None:
    """A policy that names its own resource's ARN is the shortest circle."""
    findings = faults_of(Key__Description={"Fn::GetAtt": ["Key", "Arn"]})
    assert findings[0].message.endswith("in a circle: Key → Key")


def test_no_server_is_a_fault() -> None:
    """A stack without a server is no gateway."""
    findings = faults_of(Server={"Type": "AWS::SNS::Topic"}, User={"Type": "AWS::SNS::Topic"})
    assert [finding.message for finding in findings] == ["the stack has no AWS::Transfer::Server"]


def test_a_reference_to_what_a_condition_leaves_out_is_a_fault() -> None:
    """A resource whose condition is false cannot be referred to."""
    body = {
        "Conditions": {"Never": {"Fn::Equals": ["a", "b"]}},
        "Resources": {**RESOURCES, "Extra": {"Type": "AWS::SNS::Topic", "Condition": "Never"}},
        "Outputs": {
            "Bad": {"Value": {"Ref": "Extra"}},
            "Good": {"Condition": "Never", "Value": {"Ref": "Extra"}},
        },
    }
    template = parse_template(json.dumps(body), file="template.json")
    with pytest.raises(DefinitionError, match="`Extra` is referred to, but its condition `Never`"):
        build(template, name="landing")


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"account": "1"}, "an account has 12 digits"),
        ({"region": "mars"}, "no such region: `mars`"),
        ({"name": "-x"}, "`-x` is no stack name"),
        ({"parameters": {"Gone": "1"}}, "parameter `Gone` is given"),
    ],
)
def test_what_the_run_gives_is_checked_too(options: Mapping[str, Any], fault: str) -> None:
    """Account, region, stack name and parameters are checked with the rest."""
    with pytest.raises(DefinitionError, match=fault):
        build(template_of(), **{"name": "landing", **options})


def test_ignored_properties_are_told_with_a_reason() -> None:
    """A property without effect here is a finding that says why, at its line."""
    changes = {"Server__EndpointType": "VPC", "Bucket__LifecycleConfiguration": {"Rules": []}}
    body = json.dumps(dict(template_of(**changes).body), indent=1)
    line = body[: body.index('"LifecycleConfiguration"')].count("\n") + 1
    stack = stack_of(**changes)
    found = {(finding.resource, finding.severity): finding for finding in stack.findings}
    assert set(found) == {("Server", "ignored"), ("Bucket", "ignored")}
    assert "the door listens where --listen says" in found[("Server", "ignored")].message
    assert found[("Bucket", "ignored")].source == Source("template.json", line, 5)


def test_a_server_without_a_security_policy_gets_ours() -> None:
    """CloudFormation would take 2018-11, with SHA-1; both that and a name of ours are told."""
    stack = stack_of(Server={"Type": "AWS::Transfer::Server"})
    assert stack.server.security_policy_name == "Feedgate-2026-11"
    assert any("CloudFormation would take" in item.message for item in stack.findings)
    stack = stack_of(Server__SecurityPolicyName="Feedgate-PQ-Strict-2026-11")
    assert stack.server.security_policy_name == "Feedgate-PQ-Strict-2026-11"
    assert any("AWS has none of that name" in item.message for item in stack.findings)
    assert not any("ecurity" in item.message for item in stack_of().findings)
