// users.json to AWS::Transfer::User resources.
//
// An entry has AWS's field names: UserName, HomeDirectoryMappings, SshPublicKeys, and if need be
// Role, Policy, HomeDirectory, Tags. A Target may hold ${LandingBucket}.

local tags = import 'tags.libsonnet';

// The scope-down policy: plain text with ${…} for Fn::Sub, ${!transfer:UserName} for Transfer.
local policy = importstr '../policy.txt';

local capital(word) = std.asciiUpper(std.substr(word, 0, 1)) + std.substr(word, 1, std.length(word));

// jeffrey_aven becomes UserJeffreyAven; other signs are spelt out.
local logicalId(name) =
  local spelt = std.strReplace(std.strReplace(std.strReplace(name, '.', '_dot_'), '-', '_dash_'), '@', '_at_');
  'User' + std.join('', [capital(word) for word in std.split(spelt, '_')]);

local substituted(text) =
  if std.length(std.findSubstr('${', text)) > 0 then { 'Fn::Sub': text } else text;

local has(object, field) = std.objectHas(object, field) && std.length(object[field]) > 0;

{
  resource(user):: {
    Type: 'AWS::Transfer::User',
    Properties: {
      ServerId: { 'Fn::GetAtt': ['TransferServer', 'ServerId'] },
      UserName: user.UserName,
      Role: if has(user, 'Role') then user.Role else { 'Fn::GetAtt': ['TransferRole', 'Arn'] },
      Policy: if has(user, 'Policy') then user.Policy else { 'Fn::Sub': policy },
      HomeDirectoryType: 'LOGICAL',
      HomeDirectoryMappings: [
        mapping { Target: substituted(mapping.Target) }
        for mapping in user.HomeDirectoryMappings
      ],
      [if has(user, 'HomeDirectory') then 'HomeDirectory']: user.HomeDirectory,
      [if has(user, 'SshPublicKeys') then 'SshPublicKeys']: user.SshPublicKeys,
      Tags: tags + (if has(user, 'Tags') then user.Tags else []),
    },
  },

  resources(users):: { [logicalId(user.UserName)]: $.resource(user) for user in users },
}
