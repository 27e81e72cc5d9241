local tags = import 'tags.libsonnet';

// AWS Transfer assumes this role for each supplier. It covers the whole bucket; the session policy
// in policy.txt narrows it to the supplier's own folder.
{
  Type: 'AWS::IAM::Role',
  Properties: {
    AssumeRolePolicyDocument: {
      Version: '2012-10-17',
      Statement: [
        {
          Effect: 'Allow',
          Principal: { Service: 'transfer.amazonaws.com' },
          Action: 'sts:AssumeRole',
          Condition: { StringEquals: { 'aws:SourceAccount': { Ref: 'AWS::AccountId' } } },
        },
      ],
    },
    Policies: [
      {
        PolicyName: 'landing',
        PolicyDocument: {
          Version: '2012-10-17',
          Statement: [
            {
              Sid: 'ListTheBucket',
              Effect: 'Allow',
              Action: ['s3:ListBucket', 's3:GetBucketLocation'],
              Resource: { 'Fn::GetAtt': ['LandingBucket', 'Arn'] },
            },
            {
              Sid: 'UseItsObjects',
              Effect: 'Allow',
              Action: [
                's3:PutObject',
                's3:GetObject',
                's3:GetObjectTagging',
                's3:GetObjectVersion',
                's3:DeleteObject',
                's3:DeleteObjectVersion',
                's3:AbortMultipartUpload',
              ],
              Resource: { 'Fn::Sub': '${LandingBucket.Arn}/*' },
            },
            {
              Sid: 'UseTheKmsKey',
              Effect: 'Allow',
              Action: ['kms:Decrypt', 'kms:Encrypt', 'kms:GenerateDataKey'],
              Resource: { 'Fn::GetAtt': ['LandingKey', 'Arn'] },
            },
          ],
        },
      },
    ],
    Tags: tags,
  },
}
