{
  Type: 'AWS::Route53::RecordSet',
  Condition: 'HasHostedZone',
  Properties: {
    HostedZoneId: { Ref: 'HostedZoneId' },
    Name: { Ref: 'HostName' },
    Type: 'CNAME',
    TTL: '300',
    ResourceRecords: [
      {
        'Fn::Sub': '${TransferServer.ServerId}.server.transfer.${AWS::Region}.${AWS::URLSuffix}',
      },
    ],
  },
}
