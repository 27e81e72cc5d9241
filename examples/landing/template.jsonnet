// An SFTP gateway for a data platform: suppliers' files land in an encrypted bucket, each supplier
// held to a folder of its own, and Snowflake reads them from there.
//
//   jsonnet template.jsonnet            prints the CloudFormation template
//   feedgate up                         runs it on this machine
//
// One resource a file, in includes/. Suppliers are data, in users.json.

local supplier = import 'includes/supplier.libsonnet';

{
  AWSTemplateFormatVersion: '2010-09-09',
  Description: 'SFTP gateway: suppliers, landing bucket, keys and roles',

  Parameters: import 'includes/parameters.libsonnet',
  Conditions: import 'includes/conditions.libsonnet',

  Resources: {
    // where files lie
    LandingKey: import 'includes/landingkey.libsonnet',
    LandingKeyAlias: import 'includes/landingkeyalias.libsonnet',
    LoggingBucket: import 'includes/loggingbucket.libsonnet',
    LoggingBucketPolicy: import 'includes/loggingbucketpolicy.libsonnet',
    LandingBucket: import 'includes/landingbucket.libsonnet',
    LandingBucketPolicy: import 'includes/landingbucketpolicy.libsonnet',

    // who may touch them
    TransferRole: import 'includes/transferrole.libsonnet',
    SnowflakeRole: import 'includes/snowflakerole.libsonnet',

    // the door
    TransferLogs: import 'includes/transferlogs.libsonnet',
    TransferServer: import 'includes/transferserver.libsonnet',
    TransferHostName: import 'includes/transferhostname.libsonnet',
  } + supplier.resources(import 'users.json'),

  Outputs: import 'includes/outputs.libsonnet',
}
