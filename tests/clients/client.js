// npm's ssh2: one JSON list a line in, one JSON answer out; `fast` uses fastPut and fastGet.
const { Client } = require('ssh2');
const fs = require('fs');
const readline = require('readline');

const [port, user, key, fast] = process.argv.slice(2);
const parallel = { concurrency: 64, chunkSize: Number(fast) || 32768 };
const connection = new Client();
const answer = (error, value) =>
  console.log(JSON.stringify(error ? { error: String(error) } : { ok: value ?? null }));

connection.on('error', (error) => { console.error(error); process.exit(1); });
connection.on('ready', () => connection.sftp((error, sftp) => {
  if (error) throw error;
  const operations = {
    put: (local, remote, done) => (fast ? sftp.fastPut(local, remote, parallel, done)
      : sftp.writeFile(remote, fs.readFileSync(local), done)),
    get: (remote, local, done) => (fast ? sftp.fastGet(remote, local, parallel, done)
      : sftp.readFile(remote, (failed, data) => {
        if (!failed) fs.writeFileSync(local, data);
        done(failed);
      })),
    ls: (directory, done) => sftp.readdir(directory, (failed, list) =>
      done(failed, failed ? null : list.map((entry) => entry.filename))),
    rename: sftp.rename.bind(sftp),
    mkdir: sftp.mkdir.bind(sftp),
    rmdir: sftp.rmdir.bind(sftp),
    rm: sftp.unlink.bind(sftp),
  };
  const lines = readline.createInterface({ input: process.stdin });
  lines.on('line', (line) => {
    const [operation, ...words] = JSON.parse(line);
    operations[operation](...words, answer);
  });
  lines.on('close', () => connection.end());
}));
connection.connect({
  host: '127.0.0.1', port: Number(port), username: user, privateKey: fs.readFileSync(key),
});
