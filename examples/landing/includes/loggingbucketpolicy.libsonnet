// S3 itself writes the access logs, as the service principal below.
{
  Type: 'AWS::S3::BucketPolicy',
  Properties: {
    Bucket: { Ref: 'LoggingBucket' },
    PolicyDocument: {
      Version: '2012-10-17',
      Statement: [
        {
          Sid: 'AccessLogsOfTheLandingBucket',
          Effect: 'Allow',
          Principal: { Service: 'logging.s3.amazonaws.com' },
          Action: 's3:PutObject',
          Resource: { 'Fn::Sub': '${LoggingBucket.Arn}/*' },
          Condition: {
            ArnLike: { 'aws:SourceArn': { 'Fn::GetAtt': ['LandingBucket', 'Arn'] } },
            StringEquals: { 'aws:SourceAccount': { Ref: 'AWS::AccountId' } },
          },
        },
      ],
    },
  },
}
