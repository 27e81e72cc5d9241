<?php
// phpseclib 3: one JSON list a line in, one JSON answer out.
require 'phpseclib3/autoload.php';

[, $port, $user, $key] = $argv;
$sftp = new phpseclib3\Net\SFTP('127.0.0.1', (int) $port);
$private = phpseclib3\Crypt\PublicKeyLoader::load(file_get_contents($key));
if (!$sftp->login($user, $private)) {
    fwrite(STDERR, 'login failed: ' . implode('; ', $sftp->getErrors()) . "\n");
    exit(1);
}
while (($line = fgets(STDIN)) !== false) {
    $words = json_decode($line, true);
    $done = match (array_shift($words)) {
        'put' => $sftp->put($words[1], $words[0], phpseclib3\Net\SFTP::SOURCE_LOCAL_FILE),
        'get' => $sftp->get($words[0], $words[1]),
        'ls' => $sftp->nlist($words[0]),
        'rename' => $sftp->rename($words[0], $words[1]),
        'mkdir' => $sftp->mkdir($words[0]),
        'rmdir' => $sftp->rmdir($words[0]),
        'rm' => $sftp->delete($words[0], false),
        'resume' => $sftp->put($words[1], $words[0],
            phpseclib3\Net\SFTP::SOURCE_LOCAL_FILE | phpseclib3\Net\SFTP::RESUME,
            -1, $sftp->filesize($words[1])),
    };
    $answer = $done === false ? ['error' => $sftp->getLastSFTPError()] : ['ok' => $done];
    echo json_encode($answer, JSON_UNESCAPED_UNICODE), "\n";
}
