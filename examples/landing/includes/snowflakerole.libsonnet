local tags = import 'tags.libsonnet';

// Snowflake's storage integration assumes this role to read what landed. Until the integration
// exists and its user and external id are known, nobody outside the account can.
{
  Type: 'AWS::IAM::Role',
  Properties: {
    AssumeRolePolicyDocument: {
      Version: '2012-10-17',
      Statement: [
        {
          Effect: 'Allow',
          Principal: {
            AWS: {
              'Fn::If': [
                'HasSnowflakeUser',
                { Ref: 'SnowflakeUserArn' },
                { 'Fn::Sub': 'arn:${AWS::Partition}:iam::${AWS::AccountId}:root' },
              ],
            },
          },
          Action: 'sts:AssumeRole',
          Condition: {
            'Fn::If': [
              'HasSnowflakeExternalId',
              { StringEquals: { 'sts:ExternalId': { Ref: 'SnowflakeExternalId' } } },
              { Ref: 'AWS::NoValue' },
            ],
          },
        },
      ],
    },
    Policies: [
      {
        PolicyName: 'read-landing',
        PolicyDocument: {
          Version: '2012-10-17',
          Statement: [
            {
              Sid: 'ListThePrefix',
              Effect: 'Allow',
              Action: 's3:ListBucket',
              Resource: { 'Fn::GetAtt': ['LandingBucket', 'Arn'] },
              Condition: { StringLike: { 's3:prefix': { 'Fn::Sub': '${SnowflakePrefix}*' } } },
            },
            {
              Sid: 'FindTheBucket',
              Effect: 'Allow',
              Action: 's3:GetBucketLocation',
              Resource: { 'Fn::GetAtt': ['LandingBucket', 'Arn'] },
            },
            {
              Sid: 'ReadItsObjects',
              Effect: 'Allow',
              Action: ['s3:GetObject', 's3:GetObjectVersion'],
              Resource: { 'Fn::Sub': '${LandingBucket.Arn}/${SnowflakePrefix}*' },
            },
            {
              Sid: 'DecryptThem',
              Effect: 'Allow',
              Action: 'kms:Decrypt',
              Resource: { 'Fn::GetAtt': ['LandingKey', 'Arn'] },
            },
          ],
        },
      },
    ],
    Tags: tags,
  },
}
