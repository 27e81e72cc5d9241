local tags = import 'tags.libsonnet';

{
  Type: 'AWS::S3::Bucket',
  DeletionPolicy: 'Retain',
  UpdateReplacePolicy: 'Retain',
  Properties: {
    BucketName: { 'Fn::Sub': '${BucketNamePrefix}-${AWS::AccountId}-${AWS::Region}' },
    BucketEncryption: {
      ServerSideEncryptionConfiguration: [
        {
          ServerSideEncryptionByDefault: {
            SSEAlgorithm: 'aws:kms',
            KMSMasterKeyID: { 'Fn::GetAtt': ['LandingKey', 'Arn'] },
          },
          BucketKeyEnabled: true,
        },
      ],
    },
    LoggingConfiguration: {
      DestinationBucketName: { Ref: 'LoggingBucket' },
      LogFilePrefix: 'landing/',
    },
    // Tells Snowpipe of each new object; the queue is Snowflake's and known once the pipe exists.
    NotificationConfiguration: {
      'Fn::If': [
        'HasSnowpipeQueue',
        {
          QueueConfigurations: [
            { Event: 's3:ObjectCreated:*', Queue: { Ref: 'SnowpipeQueueArn' } },
          ],
        },
        { Ref: 'AWS::NoValue' },
      ],
    },
    OwnershipControls: { Rules: [{ ObjectOwnership: 'BucketOwnerEnforced' }] },
    PublicAccessBlockConfiguration: {
      BlockPublicAcls: true,
      BlockPublicPolicy: true,
      IgnorePublicAcls: true,
      RestrictPublicBuckets: true,
    },
    Tags: tags,
  },
}
