# Every database with the extension has a worker of its own, which is in nobody's way, whatever its calls wait for.

use strict;
use warnings;

use ContactSync;
use Test::More;

my $sandbox = start_sandbox();
my $node = start_node();

sub workers
{
	return $node->safe_psql('postgres',
		q{SELECT string_agg(datname, ',' ORDER BY datname) FROM pg_stat_activity WHERE backend_type = 'contactsync worker'});
}

# A database with a server and a table that is mirrored to it.
sub prepare
{
	my ($dbname, $account) = @_;

	create_server($node, $sandbox, 'mailingcore', dbname => $dbname, name => 'crm', account => $account // $dbname);
	$node->safe_psql(
		$dbname, q{
		CREATE TABLE customers (id int PRIMARY KEY, email text);
		SELECT contactsync_watch('customers', 'crm', '{"email": "email", "external_id": "id"}');
		INSERT INTO customers VALUES (1, 'first@example.com');
		CALL contactsync_wait('crm');
	});
	return;
}

# From here on calls of the account hang, and there is one.
sub hang
{
	my ($dbname, $account) = @_;

	$sandbox->fault('mailingcore', { match => { account => $account // $dbname }, times => undef, action => { stall => \1 } });
	$node->safe_psql($dbname, q{UPDATE customers SET email = 'hanging@example.com' WHERE id = 1});
	$sandbox->wait_for_journal('mailingcore', sub { $_[-1]{in_flight} }, account => $account // $dbname);
	return;
}

sub release { my ($account) = @_; $sandbox->clear_faults('mailingcore', account => $account); return; }

sub email
{
	my ($account) = @_;

	return $sandbox->contacts('mailingcore', account => $account)->[0]{email};
}

# one for each, from CREATE EXTENSION on, and none where it is not
$node->safe_psql('postgres', "CREATE DATABASE $_") foreach 'one', 'two', 'empty';
prepare($_) foreach 'one', 'two';
is(workers(), 'one,two', 'each database with the extension has a worker');
is(email($_), 'first@example.com', "that of $_ delivers") foreach 'one', 'two';
hang('one');
$node->safe_psql('two', q{INSERT INTO customers VALUES (2, 'second@example.com'); CALL contactsync_wait('crm')});
is($sandbox->count('mailingcore', account => 'two')->{contacts}, 2, 'one that waits does not hold up the other');

# a database is copied: the original is left for a moment, and the copy has a worker as well
is($node->psql('postgres', 'CREATE DATABASE copy TEMPLATE one'), 0, 'a database can be copied while its calls hang');
$node->poll_query_until('postgres', q{SELECT count(*) = 3 FROM pg_stat_activity WHERE backend_type = 'contactsync worker'})
  or die 'timed out waiting for the worker of a copy';
is(workers(), 'copy,one,two', 'the copy has its own worker');

# renamed, with a call that hangs
$sandbox->wait_for_journal('mailingcore', sub { $_[-1]{in_flight} }, account => 'one');
is($node->psql('postgres', 'ALTER DATABASE one RENAME TO uno'), 0, 'a database can be renamed while its calls hang');
release('one');
$node->safe_psql('uno', q{CALL contactsync_wait('crm')});
is(email('one'), 'hanging@example.com', 'and goes on under its new name');
like(workers(), qr/two,uno$/, 'with a worker');

# somebody else is connected: the statement fails, and the worker comes back
my $session = $node->background_psql('uno');
my ($result, undef, $stderr) = $node->psql('postgres', 'DROP DATABASE uno');
like($stderr, qr/is being accessed by other users.*\n.*There is 1 other session/, 'somebody else is still in the way of DROP DATABASE');
$node->safe_psql('uno', q{UPDATE customers SET email = 'back@example.com'; CALL contactsync_wait('crm')});
is(email('one'), 'back@example.com', 'and the worker is back');
$session->quit;

# dropped, with a call that hangs
hang('uno', 'one');
is($node->psql('postgres', 'DROP DATABASE uno'), 0, 'a database can be dropped while its calls hang');
release('one');
is($node->psql('postgres', 'DROP DATABASE copy'), 0, 'and a copy');
$node->poll_query_until('postgres', q{SELECT string_agg(datname, ',') = 'two' FROM pg_stat_activity WHERE backend_type = 'contactsync worker'})
  or die 'timed out waiting for the workers to be gone';
ok(1, 'their workers are gone');

# the extension is dropped, with a call that hangs, and made again
hang('two');
is($node->psql('two', q{SET lock_timeout = '5s'; DROP EXTENSION contactsync CASCADE}, on_error_stop => 1), 0, 'the extension can be dropped while its calls hang');
$node->poll_query_until('postgres', q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'contactsync worker'})
  or die 'timed out waiting for the worker to be gone';
$node->safe_psql('two', q{UPDATE customers SET email = 'nobody@example.com'});
release('two');
$node->safe_psql('two', 'DROP TABLE customers');
prepare('two', 'again');
is(email('again'), 'first@example.com', 'made again it has a worker again');
is($node->psql('postgres', 'DROP DATABASE empty'), 0, 'a database without it is left alone');

# dropped and made again at once: nothing of the one is taken for the other's
hang('two', 'again');
my $calls = $sandbox->count('mailingcore', account => 'again')->{requests};
$node->safe_psql('two', 'BEGIN; DROP EXTENSION contactsync CASCADE; DROP TABLE customers; CREATE EXTENSION contactsync; COMMIT');
release('again');
prepare('two', 'third');
is(email('third'), 'first@example.com', 'an extension that is dropped and made again in one transaction works');
is($node->safe_psql('two', 'SELECT count(*), min(contacts) FROM contactsync.calls'), '1|1', 'and knows nothing of the one before');
($result, undef, $stderr) = $node->psql('two', 'CALL contactsync_run()');
like($stderr, qr/delivers already/, 'its queue has one owner');

$node->stop;
unlike(PostgreSQL::Test::Utils::slurp_file($node->logfile), qr/(PANIC|terminated by signal|relation .* does not exist|could not open relation)/,
	'and the log shows no accident');
done_testing();
