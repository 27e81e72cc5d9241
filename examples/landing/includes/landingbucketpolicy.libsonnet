{
  Type: 'AWS::S3::BucketPolicy',
  Properties: {
    Bucket: { Ref: 'LandingBucket' },
    PolicyDocument: {
      Version: '2012-10-17',
      Statement: [
        {
          Sid: 'TlsOnly',
          Effect: 'Deny',
          Principal: '*',
          Action: 's3:*',
          Resource: [
            { 'Fn::GetAtt': ['LandingBucket', 'Arn'] },
            { 'Fn::Sub': '${LandingBucket.Arn}/*' },
          ],
          Condition: { Bool: { 'aws:SecureTransport': 'false' } },
        },
      ],
    },
  },
}
