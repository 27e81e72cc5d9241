{
  Type: 'AWS::KMS::Alias',
  Properties: {
    AliasName: { 'Fn::Sub': 'alias/${BucketNamePrefix}' },
    TargetKeyId: { Ref: 'LandingKey' },
  },
}
