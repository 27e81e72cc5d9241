// warehouse.sql takes &{LandingBucketName} and &{SnowflakeRoleArn} from here.
{
  LandingBucketName: {
    Description: 'Where suppliers land their files',
    Value: { Ref: 'LandingBucket' },
  },
  LandingKeyArn: {
    Description: 'The KMS key that encrypts them',
    Value: { 'Fn::GetAtt': ['LandingKey', 'Arn'] },
  },
  SnowflakeRoleArn: {
    Description: 'STORAGE_AWS_ROLE_ARN of the storage integration',
    Value: { 'Fn::GetAtt': ['SnowflakeRole', 'Arn'] },
  },
  ServerId: {
    Description: 'The Transfer server',
    Value: { 'Fn::GetAtt': ['TransferServer', 'ServerId'] },
  },
  Endpoint: {
    Description: "The server's own host name",
    Value: {
      'Fn::Sub': '${TransferServer.ServerId}.server.transfer.${AWS::Region}.${AWS::URLSuffix}',
    },
  },
  HostName: {
    Description: 'The name that suppliers connect to',
    Value: { Ref: 'HostName' },
  },
}
