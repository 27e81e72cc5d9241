local given(parameter) = { 'Fn::Not': [{ 'Fn::Equals': [{ Ref: parameter }, ''] }] };

{
  HasHostedZone: given('HostedZoneId'),
  HasSnowflakeUser: given('SnowflakeUserArn'),
  HasSnowflakeExternalId: given('SnowflakeExternalId'),
  HasSnowpipeQueue: given('SnowpipeQueueArn'),
}
