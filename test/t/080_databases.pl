# Every database with the extension has its own worker, which does not get in the way of others, whatever its calls wait for.

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

# Create a database with a server and a watched table.
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

# From here on let calls of the account hang, and start one.
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

# one worker for each database, from CREATE EXTENSION on, and none without the extension
$node->safe_psql('postgres', "CREATE DATABASE $_") foreach 'one', 'two', 'empty';
prepare($_) foreach 'one', 'two';
is(workers(), 'one,two', 'each database with the extension has a worker');
is(email($_), 'first@example.com', "that of $_ delivers") foreach 'one', 'two';
hang('one');
$node->safe_psql('two', q{INSERT INTO customers VALUES (2, 'second@example.com'); CALL contactsync_wait('crm')});
is($sandbox->count('mailingcore', account => 'two')->{contacts}, 2, 'a worker that waits does not delay the other');

# copy a database: its worker leaves for a moment, and the copy gets a worker as well
is($node->psql('postgres', 'CREATE DATABASE copy TEMPLATE one'), 0, 'a database can be copied while its calls hang');
$node->poll_query_until('postgres', q{SELECT count(*) = 3 FROM pg_stat_activity WHERE backend_type = 'contactsync worker'})
  or die 'timed out waiting for the worker of a copy';
is(workers(), 'copy,one,two', 'the copy has its own worker');

# rename a database while a call hangs
$sandbox->wait_for_journal('mailingcore', sub { $_[-1]{in_flight} }, account => 'one');
is($node->psql('postgres', 'ALTER DATABASE one RENAME TO uno'), 0, 'a database can be renamed while its calls hang');
release('one');
$node->safe_psql('uno', q{CALL contactsync_wait('crm')});
is(email('one'), 'hanging@example.com', 'delivery continues under the new name');
# that which it left may not have ended yet
ok($node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'contactsync worker' AND datname = 'uno'}),
	'the renamed database has a worker');

# another session is connected: the statement fails, and the worker comes back
my $session = $node->background_psql('uno');
my ($result, undef, $stderr) = $node->psql('postgres', 'DROP DATABASE uno');
like($stderr, qr/is being accessed by other users.*\n.*There is 1 other session/, 'DROP DATABASE fails only because of the other session');
$node->safe_psql('uno', q{UPDATE customers SET email = 'back@example.com'; CALL contactsync_wait('crm')});
is(email('one'), 'back@example.com', 'the worker is back');
$session->quit;

# drop a database while a call hangs
hang('uno', 'one');
is($node->psql('postgres', 'DROP DATABASE uno'), 0, 'a database can be dropped while its calls hang');
release('one');
is($node->psql('postgres', 'DROP DATABASE copy'), 0, 'a copy can be dropped');
$node->poll_query_until('postgres', q{SELECT string_agg(datname, ',') = 'two' FROM pg_stat_activity WHERE backend_type = 'contactsync worker'})
  or die 'timed out waiting for the workers to be gone';
ok(1, 'their workers have ended');

# drop the extension while a call hangs, and create it again
hang('two');
is($node->psql('two', q{SET lock_timeout = '5s'; DROP EXTENSION contactsync CASCADE}, on_error_stop => 1), 0, 'the extension can be dropped while its calls hang');
$node->poll_query_until('postgres', q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'contactsync worker'})
  or die 'timed out waiting for the worker to be gone';
$node->safe_psql('two', q{UPDATE customers SET email = 'nobody@example.com'});
release('two');
$node->safe_psql('two', 'DROP TABLE customers');
prepare('two', 'again');
is(email('again'), 'first@example.com', 'the extension has a worker when it is created again');
is($node->psql('postgres', 'DROP DATABASE empty'), 0, 'a database without the extension has no worker');

# drop and create it at once: nothing of the old one is taken for the new one
hang('two', 'again');
my $calls = $sandbox->count('mailingcore', account => 'again')->{requests};
$node->safe_psql('two', 'BEGIN; DROP EXTENSION contactsync CASCADE; DROP TABLE customers; CREATE EXTENSION contactsync; COMMIT');
release('again');
prepare('two', 'third');
is(email('third'), 'first@example.com', 'an extension that is dropped and created in one transaction works');
is($node->safe_psql('two', 'SELECT count(*), min(contacts) FROM contactsync.calls'), '1|1', 'the new extension contains nothing of the old one');
is($node->safe_psql('two', q{
	SELECT count(*) FROM pg_locks l JOIN pg_extension e ON l.classid = 'pg_extension'::regclass AND l.objid = e.oid
	WHERE e.extname = 'contactsync' AND l.objsubid = 1 AND l.mode = 'ExclusiveLock'}), '1', 'its queue has one owner');

$node->stop;
unlike(PostgreSQL::Test::Utils::slurp_file($node->logfile), qr/(PANIC|terminated by signal|relation .* does not exist|could not open relation)/,
	'the log contains no crash');
done_testing();
