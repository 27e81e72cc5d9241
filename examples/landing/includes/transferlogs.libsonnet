local tags = import 'tags.libsonnet';

{
  Type: 'AWS::Logs::LogGroup',
  Properties: {
    LogGroupName: { 'Fn::Sub': '/transfer/${BucketNamePrefix}' },
    RetentionInDays: 90,
    Tags: tags,
  },
}
