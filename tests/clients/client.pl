# Net::SFTP::Foreign: one JSON list a line in, one JSON answer out.
use strict;
use warnings;
use JSON::PP;
use Net::SFTP::Foreign;

$| = 1;
my ($user, @options) = @ARGV;
my $sftp = Net::SFTP::Foreign->new("$user\@127.0.0.1", more => \@options, fs_encoding => 'UTF-8');
$sftp->die_on_error('cannot connect');
my %operations = (
    put    => sub { $sftp->put($_[0], $_[1], copy_time => 0, copy_perm => 0) },
    get    => sub { $sftp->get($_[0], $_[1], copy_time => 0, copy_perm => 0) },
    resume => sub { $sftp->put($_[0], $_[1], resume => 1, copy_time => 0, copy_perm => 0) },
    ls     => sub { $sftp->ls($_[0], names_only => 1) },
    rename => sub { $sftp->rename($_[0], $_[1]) },
    mkdir  => sub { $sftp->mkdir($_[0]) },
    rmdir  => sub { $sftp->rmdir($_[0]) },
    rm     => sub { $sftp->remove($_[0]) },
);
while (my $line = <STDIN>) {
    my ($operation, @words) = @{ decode_json($line) };
    my $value = $operations{$operation}->(@words);
    my $answer = $sftp->error ? { error => '' . $sftp->error } : { ok => $value };
    print encode_json($answer), "\n";
}
