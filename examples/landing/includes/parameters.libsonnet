// What differs between a laptop, a test account and production: params/dev.json, params/prod.json.
{
  Environment: {
    Type: 'String',
    Default: 'dev',
    AllowedValues: ['dev', 'test', 'prod'],
    Description: 'Goes into the tags',
  },
  BucketNamePrefix: {
    Type: 'String',
    Default: 'landing',
    AllowedPattern: '[a-z0-9][a-z0-9-]{1,30}',
    Description: 'Bucket names are PREFIX-ACCOUNT-REGION and PREFIX-logs-ACCOUNT-REGION',
  },
  HostName: {
    Type: 'String',
    Default: 'sftp.example.com',
    Description: 'The name that suppliers connect to',
  },
  HostedZoneId: {
    Type: 'String',
    Default: '',
    AllowedPattern: '(Z[A-Z0-9]+)?',
    Description: 'Route 53 zone of the host name; empty makes no DNS record',
  },
  SnowflakePrefix: {
    Type: 'String',
    Default: '',
    Description: 'What Snowflake may read begins with this; empty is the whole bucket',
  },
  SnowflakeUserArn: {
    Type: 'String',
    Default: '',
    Description: 'STORAGE_AWS_IAM_USER_ARN of DESC INTEGRATION; empty until the integration exists',
  },
  SnowflakeExternalId: {
    Type: 'String',
    Default: '',
    Description: 'STORAGE_AWS_EXTERNAL_ID of DESC INTEGRATION; empty until the integration exists',
  },
  SnowpipeQueueArn: {
    Type: 'String',
    Default: '',
    Description: 'notification_channel of SHOW PIPES; empty until the pipes exist',
  },
}
