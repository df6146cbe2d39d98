# contactsync_run() delivers in the caller's session, where the library is not preloaded and where it is.

use strict;
use warnings;

use ContactSync;
use IPC::Run;
use Test::More;

my $sandbox = start_sandbox();
my $node = start_node('shared_preload_libraries' => '');

# A script's standard error, which is where notices go.
sub stderr_of
{
	my ($sql, %param) = @_;
	my $stderr;

	$node->psql('postgres', $sql, stderr => \$stderr, on_error_stop => 1, %param);
	return $stderr;
}

# A session in the background: its process id, and the handle to end it with.
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
	'contactsync_watch() says that nothing goes by itself');
# a transaction each, for progress is told by what is left in the queue
$node->safe_psql('postgres', join(';', map { "INSERT INTO customers VALUES ($_, 'c$_\@example.com')" } 1 .. 45));
is($node->safe_psql('postgres', 'SELECT backlog, state, worker FROM contactsync.status'), '45|running|not preloaded', 'rows are queued');

my $stderr = stderr_of(q{CALL contactsync_wait('mailingcore')});
like($stderr, qr/ERROR: +nothing delivers the queue/, 'contactsync_wait() does not wait for what never comes');
like($stderr, qr/HINT: +Use CALL contactsync_run\(\)/, 'but says what to call');

# progress is told once a second: one call takes longer than that
$sandbox->fault('mailingcore', { action => { latency => 1.2 }, match => { nth => 2 } });
like(stderr_of('CALL contactsync_run()'), qr{NOTICE: +10/45 +22 % +[\d.]+/s +ETA \d\d:\d\d}, 'contactsync_run() shows how far it is');
is($sandbox->count('mailingcore')->{contacts}, 45, 'and delivers everything');
is($node->safe_psql('postgres', 'SELECT backlog, synced, in_flight FROM contactsync.status'), '0|45|0', 'as status says');

# with nothing to do it ends at once; so does waiting
is(stderr_of(q{CALL contactsync_run('mailingcore'); CALL contactsync_wait('mailingcore')}), '', 'there is nothing left to say');
is($sandbox->count('mailingcore')->{requests}, 5, 'nor to send');

# not inside a transaction
like(stderr_of('BEGIN; CALL contactsync_run()'), qr/ERROR: +contactsync_run\(\) cannot run inside a transaction block/, 'it wants no transaction around it');

# a server that cannot go on does not keep it
$sandbox->config('mailingcore', { keys => { mc_test_sandbox => { revoked => \1 } } });
$node->safe_psql('postgres', q{UPDATE customers SET email = 'new' || email WHERE id = 1});
$stderr = stderr_of('CALL contactsync_run()');
like($stderr, qr/WARNING: +server "mailingcore" cannot go on: unauthorized: .*API key/, 'a halted server is a warning');
like($stderr, qr/DETAIL: +1 contact stays queued/, 'that says what is left');
is($node->safe_psql('postgres', 'SELECT state, backlog, failures FROM contactsync.status'), 'halted|1|0', 'and no failure');
$sandbox->config('mailingcore', { keys => { mc_test_sandbox => { revoked => \0 } } });
is(stderr_of('CALL contactsync_run()'), '', 'the next run tries again');
is($node->safe_psql('postgres', 'SELECT state, backlog FROM contactsync.status'), 'idle|0', 'and it is well again');

# cancelled while a call hangs; a second one has to wait its turn
$sandbox->fault('mailingcore', { action => { stall => \1 } });
$node->safe_psql('postgres', q{UPDATE customers SET email = 'late' || email WHERE id = 2});
my $session = start_session('hanging', 'CALL contactsync_run()');
$sandbox->wait_for_journal('mailingcore', sub { $_[-1]{in_flight} });
# a procedure is always in a transaction, but one without a snapshot, an id or a lock
is( $node->safe_psql(
		'postgres', q{
		SELECT backend_xmin IS NULL, backend_xid IS NULL,
			(SELECT count(*) FROM pg_locks l WHERE l.pid = a.pid AND l.locktype IN ('relation', 'tuple', 'transactionid'))
		FROM pg_stat_activity a WHERE application_name = 'hanging'}),
	't|t|0', 'nothing is held while a call hangs');
like(stderr_of('CALL contactsync_run()'), qr/ERROR: +the background worker or another session delivers already/, 'two cannot deliver at once');
is($node->safe_psql('postgres', q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name = 'hanging'}), 't', 'it can be cancelled');
$session->{run}->finish;
like($session->{stderr}, qr/ERROR: +canceling statement due to user request/, 'at once');
$sandbox->clear_faults('mailingcore');
is($node->safe_psql('postgres', 'SELECT backlog FROM contactsync.status'), '1', 'what hung is still queued');
is(stderr_of('CALL contactsync_run()'), '', 'and goes with the next run');
is((grep { $_->{externalId} eq '2' } @{ $sandbox->contacts('mailingcore') })[0]{email}, 'latec2@example.com', 'with its value');

# a session that is killed leaves everything as well
$sandbox->fault('mailingcore', { action => { stall => \1 } });
$node->safe_psql('postgres', q{UPDATE customers SET email = 'last' || email WHERE id = 3});
$session = start_session('killed', 'CALL contactsync_run()');
$sandbox->wait_for_journal('mailingcore', sub { $_[-1]{in_flight} });
$node->safe_psql('postgres', q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'killed'});
$session->{run}->finish;
$sandbox->clear_faults('mailingcore');
is(stderr_of('CALL contactsync_run()'), '', 'the same after a session was terminated');
is((grep { $_->{externalId} eq '3' } @{ $sandbox->contacts('mailingcore') })[0]{email}, 'lastc3@example.com', 'so that no change is lost');

# the user mapping goes away while a call hangs: its answer still counts, and nothing else is sent
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
like($session->{stderr}, qr/WARNING: +server "mailingcore" cannot go on: configuration: user mapping not found/, 'a dropped user mapping halts');
is($node->safe_psql('postgres', q{SELECT string_agg(key, ',') FROM contactsync.changes}), '51', 'what was not sent stays queued');
is(join(',', map { $_->{email} } grep { $_->{externalId} > 49 } @{ $sandbox->contacts('mailingcore') }), 'flying@example.com', 'what was sent has arrived');
is($node->safe_psql('postgres', q{SELECT count(*) FROM contactsync.contacts WHERE key = '50'}), '1', 'as is known');

$node->stop;
done_testing();
