// Shared by every resource that takes tags.
[
  { Key: 'application', Value: 'sftp-gateway' },
  { Key: 'environment', Value: { Ref: 'Environment' } },
]
