local tags = import 'tags.libsonnet';

// The account hands the decision to IAM: a role can use the KMS key if, and only if, its own policy
// says so. A user's session policy (policy.txt) must say so too.
{
  Type: 'AWS::KMS::Key',
  DeletionPolicy: 'Retain',
  UpdateReplacePolicy: 'Retain',
  Properties: {
    Description: 'Encrypts what suppliers land',
    EnableKeyRotation: true,
    PendingWindowInDays: 30,
    KeyPolicy: {
      Version: '2012-10-17',
      Statement: [
        {
          Sid: 'AccountDelegatesToIam',
          Effect: 'Allow',
          Principal: { AWS: { 'Fn::Sub': 'arn:${AWS::Partition}:iam::${AWS::AccountId}:root' } },
          Action: 'kms:*',
          Resource: '*',
        },
      ],
    },
    Tags: tags,
  },
}
