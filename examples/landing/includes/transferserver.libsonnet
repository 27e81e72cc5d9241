local tags = import 'tags.libsonnet';

{
  Type: 'AWS::Transfer::Server',
  Properties: {
    Domain: 'S3',
    Protocols: ['SFTP'],
    EndpointType: 'PUBLIC',
    IdentityProviderType: 'SERVICE_MANAGED',
    SecurityPolicyName: 'TransferSecurityPolicy-2025-03',
    StructuredLogDestinations: [{ 'Fn::GetAtt': ['TransferLogs', 'Arn'] }],
    // The console shows the host name because of these two tags.
    Tags: tags + [
      { Key: 'transfer:customHostname', Value: { Ref: 'HostName' } },
      {
        'Fn::If': [
          'HasHostedZone',
          {
            Key: 'transfer:route53HostedZoneId',
            Value: { 'Fn::Sub': '/hostedzone/${HostedZoneId}' },
          },
          { Ref: 'AWS::NoValue' },
        ],
      },
    ],
  },
}
