# contactsync_run() delivers in the caller's session, both with and without a preloaded library.

use strict;
use warnings;

use ContactSync;
use IPC::Run;
use Test::More;

my $sandbox = start_sandbox();
my $node = start_node('shared_preload_libraries' => '');

# Return the standard error of a script, which contains the notices.
sub stderr_of
{
	my ($sql, %param) = @_;
	my $stderr;

	$node->psql('postgres', $sql, stderr => \$stderr, on_error_stop => 1, %param);
	return $stderr;
}

# Start a session in the background; return its output and the handle with which to end it.
sub start_session
{
	my ($name, $sql) = @_;
	my %session = (stdout => '', stderr => '');

	$session{run} = IPC::Run::start(
		[ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres') . " application_name=$name", '-c', $sql ],
		'>', \$session{stdout}, '2>', \$session{stderr});
	return \%session;
}

create_server($node, $sandbox, 'mailingcore', server => { batch_size => 10, concurrency => 1 });
$node->safe_psql('postgres', q{CREATE TABLE customers (id int PRIMARY KEY, email text)});
like(
	stderr_of(q{SELECT contactsync_watch('customers', 'mailingcore', '{"email": "email", "external_id": "id"}')}),
	qr/NOTICE: +contactsync has no background worker/,
	'contactsync_watch() warns that there is no worker');
# use one transaction for each row, because progress is derived from the rest of the queue
$node->safe_psql('postgres', join(';', map { "INSERT INTO customers VALUES ($_, 'c$_\@example.com')" } 1 .. 45));
is($node->safe_psql('postgres', 'SELECT backlog, state, worker FROM contactsync.status'), '45|running|not preloaded', 'the rows are queued');

my $stderr = stderr_of(q{CALL contactsync_wait('mailingcore')});
like($stderr, qr/ERROR: +the queue is not being delivered/, 'contactsync_wait() fails if nothing delivers');
like($stderr, qr/HINT: +Use CALL contactsync_run\(\)/, 'the hint names contactsync_run()');

# progress is shown once a second: let one call take longer than that
$sandbox->fault('mailingcore', { action => { latency => 1.2 }, match => { nth => 2 } });
like(stderr_of('CALL contactsync_run()'), qr{NOTICE: +10/45 +22 % +[\d.]+/s +ETA \d\d:\d\d}, 'contactsync_run() shows progress');
is($sandbox->count('mailingcore')->{contacts}, 45, 'contactsync_run() delivers all rows');
is($node->safe_psql('postgres', 'SELECT backlog, synced, in_flight FROM contactsync.status'), '0|45|0', 'status shows the delivery');

# the transactions of run write, whatever the session presets
$node->safe_psql('postgres', q{INSERT INTO customers VALUES (46, 'c46@example.com')});
is(stderr_of('SET client_min_messages = warning; SET default_transaction_read_only = on; CALL contactsync_run(); CALL contactsync_wait(NULL)'), '', 'contactsync_run() writes');
is($sandbox->count('mailingcore')->{contacts}, 46, 'the row has arrived');

# run and wait return at once if there is nothing to do
is(stderr_of(q{CALL contactsync_run('mailingcore'); CALL contactsync_wait('mailingcore')}), '', 'nothing is printed if the queue is empty');
is($sandbox->count('mailingcore')->{requests}, 6, 'nothing is sent if the queue is empty');

# run fails inside a transaction
like(stderr_of('BEGIN; CALL contactsync_run()'), qr/ERROR: +contactsync_run\(\) cannot run inside a transaction block/, 'contactsync_run() refuses to run inside a transaction');

# run returns if a server is halted
$sandbox->config('mailingcore', { keys => { mc_test_sandbox => { revoked => \1 } } });
$node->safe_psql('postgres', q{UPDATE customers SET email = 'new' || email WHERE id = 1});
$stderr = stderr_of('CALL contactsync_run()');
like($stderr, qr/WARNING: +delivery to server "mailingcore" cannot continue: unauthorized: .*API key/, 'a halted server causes a warning');
like($stderr, qr/DETAIL: +1 contact stays queued/, 'the warning counts the queued contacts');
is($node->safe_psql('postgres', 'SELECT state, backlog, failures FROM contactsync.status'), 'halted|1|0', 'a halted server causes no failure');
$sandbox->config('mailingcore', { keys => { mc_test_sandbox => { revoked => \0 } } });
is(stderr_of('SET client_min_messages = warning; CALL contactsync_run()'), '', 'the next run tries again');
is($node->safe_psql('postgres', 'SELECT state, backlog FROM contactsync.status'), 'idle|0', 'the server is idle again');

# cancel run while a call hangs; meanwhile a second run fails
$sandbox->fault('mailingcore', { action => { stall => \1 } });
$node->safe_psql('postgres', q{UPDATE customers SET email = 'late' || email WHERE id = 2});
my $session = start_session('hanging', 'CALL contactsync_run()');
$sandbox->wait_for_journal('mailingcore', sub { $_[-1]{in_flight} });
# a procedure always runs in a transaction, but this one has no snapshot, transaction id or lock
is( $node->safe_psql(
		'postgres', q{
		SELECT backend_xmin IS NULL, backend_xid IS NULL,
			(SELECT count(*) FROM pg_locks l WHERE l.pid = a.pid AND l.locktype IN ('relation', 'tuple', 'transactionid'))
		FROM pg_stat_activity a WHERE application_name = 'hanging'}),
	't|t|0', 'no lock or snapshot is held while a call hangs');
like(stderr_of('CALL contactsync_run()'), qr/ERROR: +another session is already delivering\nHINT: +Use CALL contactsync_wait/, 'two sessions cannot deliver to a server at the same time');
is($node->safe_psql('postgres', q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name = 'hanging'}), 't', 'the session can be cancelled');
$session->{run}->finish;
like($session->{stderr}, qr/ERROR: +canceling statement due to user request/, 'the session ends at once');
$sandbox->clear_faults('mailingcore');
is($node->safe_psql('postgres', 'SELECT backlog FROM contactsync.status'), '1', 'the interrupted change stays queued');
is(stderr_of('SET client_min_messages = warning; CALL contactsync_run()'), '', 'the next run succeeds');
is((grep { $_->{externalId} eq '2' } @{ $sandbox->contacts('mailingcore') })[0]{email}, 'latec2@example.com', 'the next run sends the interrupted change');

# terminate the session while a call hangs
$sandbox->fault('mailingcore', { action => { stall => \1 } });
$node->safe_psql('postgres', q{UPDATE customers SET email = 'last' || email WHERE id = 3});
$session = start_session('killed', 'CALL contactsync_run()');
$sandbox->wait_for_journal('mailingcore', sub { $_[-1]{in_flight} });
$node->safe_psql('postgres', q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'killed'});
$session->{run}->finish;
$sandbox->clear_faults('mailingcore');
is(stderr_of('SET client_min_messages = warning; CALL contactsync_run()'), '', 'the next run succeeds after a session was terminated');
is((grep { $_->{externalId} eq '3' } @{ $sandbox->contacts('mailingcore') })[0]{email}, 'lastc3@example.com', 'no change is lost');

# the user mapping is dropped while a call hangs: its answer still counts, and nothing else is sent
$sandbox->fault('mailingcore', { action => { stall => \1 } });
$node->safe_psql('postgres', q{INSERT INTO customers VALUES (50, 'flying@example.com'); ALTER SERVER mailingcore OPTIONS (SET concurrency '2')});
$session = start_session('flying', 'CALL contactsync_run()');
$sandbox->wait_for_journal('mailingcore', sub { $_[-1]{in_flight} });
$node->safe_psql('postgres', q{
	DROP USER MAPPING FOR CURRENT_USER SERVER mailingcore;
	INSERT INTO customers VALUES (51, 'grounded@example.com');
});
$node->poll_query_until('postgres', q{SELECT state = 'halted' FROM contactsync.status}) or die 'timed out waiting for a halt';
$sandbox->clear_faults('mailingcore');
$session->{run}->finish;
like($session->{stderr}, qr/WARNING: +delivery to server "mailingcore" cannot continue: configuration: user mapping not found/, 'a dropped user mapping halts the server');
is($node->safe_psql('postgres', q{SELECT string_agg(key, ',') FROM contactsync.changes}), '51', 'the unsent change stays queued');
is(join(',', map { $_->{email} } grep { $_->{externalId} > 49 } @{ $sandbox->contacts('mailingcore') }), 'flying@example.com', 'the call in flight arrived');
is($node->safe_psql('postgres', q{SELECT count(*) FROM contactsync.contacts WHERE key = '50'}), '1', 'the outcome of the call in flight is stored');

$node->stop;
done_testing();
