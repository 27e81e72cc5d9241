// npm's ssh2-sftp-client, the wrapper that most Node programs use; lines as in client.js.
const Client = require('ssh2-sftp-client');
const fs = require('fs');
const readline = require('readline');

const [port, user, key] = process.argv.slice(2);

async function main() {
  const sftp = new Client();
  await sftp.connect({
    host: '127.0.0.1', port: Number(port), username: user, privateKey: fs.readFileSync(key),
  });
  const operations = {
    put: (local, remote) => sftp.put(local, remote),
    get: (remote, local) => sftp.get(remote, local),
    ls: async (directory) => (await sftp.list(directory)).map((entry) => entry.name),
    rename: (from, to) => sftp.rename(from, to),
    mkdir: (directory) => sftp.mkdir(directory, true),
    rmdir: (directory) => sftp.rmdir(directory),
    rm: (remote) => sftp.delete(remote),
  };
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const [operation, ...words] = JSON.parse(line);
    try {
      const value = await operations[operation](...words);
      console.log(JSON.stringify({ ok: operation === 'ls' ? value : null }));
    } catch (error) {
      console.log(JSON.stringify({ error: String(error) }));
    }
  }
  await sftp.end();
}
main();
