# contactsync_wait() waits for what was queued before it was called, and does not wait in vain.

use strict;
use warnings;

use ContactSync;
use IPC::Run;
use Test::More;

my $sandbox = start_sandbox();
my $node = start_node();

create_server($node, $sandbox, 'mailingcore', account => 'crm');
create_server($node, $sandbox, 'mailingcore', account => 'wrong', mapping => { api_key => 'mc_test_nobody' });
$node->safe_psql(
	'postgres', q{
	CREATE TABLE customers (id int PRIMARY KEY, email text, extra int);
	SELECT contactsync_watch('customers', 'crm', '{"email": "email", "external_id": "id", "attributes": {"extra": "extra"}}');
	CREATE ROLE stranger LOGIN;
});

sub stderr_of
{
	my ($sql, %param) = @_;
	my $stderr;

	$node->psql('postgres', $sql, stderr => \$stderr, %param);
	return $stderr;
}

# A session in the background that calls contactsync_wait().
sub start_waiting
{
	my ($name) = @_;
	my %session = (stdout => '', stderr => '');

	$session{run} = IPC::Run::start(
		[ 'psql', '-XAtq', '-d', $node->connstr('postgres') . " application_name=$name", '-c', q{CALL contactsync_wait('crm')} ],
		'>', \$session{stdout}, '2>', \$session{stderr});
	$node->poll_query_until('postgres',
		"SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = '$name' AND state = 'active' AND wait_event_type = 'Extension'")
	  or die "timed out waiting for $name to wait";
	return \%session;
}

sub insert
{
	my ($id, $action) = @_;

	$sandbox->fault('mailingcore', { match => { account => 'crm', email => "c$id\@example.com" }, action => $action }) if $action;
	$node->safe_psql('postgres', "INSERT INTO customers VALUES ($id, 'c$id\@example.com')");
	$sandbox->wait_for_journal('mailingcore', sub { grep { $_->{in_flight} } @_ }) if $action;
	return;
}

# what it cannot do
like(stderr_of(q{CALL contactsync_wait('nobody')}), qr/ERROR: +server "nobody" does not exist/, 'there is no such server');
like(stderr_of(q{CALL contactsync_wait('crm')}, extra_params => [ '-U', 'stranger' ]), qr/ERROR: +permission denied for foreign server crm/,
	'it is not for strangers');
like(stderr_of(q{BEGIN; CALL contactsync_wait('crm')}), qr/ERROR: +contactsync_wait\(\) cannot run inside a transaction block/,
	'it wants no transaction around it');
like(stderr_of('CALL contactsync_run()'), qr/ERROR: +the background worker or another session delivers already\nHINT: +Use CALL contactsync_wait/,
	'contactsync_run() leaves the queue to the worker, and says what to call instead');

# what was queued before, and not what comes then
insert(1, { stall => \1 });
like(stderr_of(q{CALL contactsync_wait('crm', '0.3 s')}), qr/ERROR: +timed out with 1 contact still queued/, 'it gives up when it is told to');
like(stderr_of(q{SET statement_timeout = '300ms'; CALL contactsync_wait('crm')}), qr/ERROR: +canceling statement due to statement timeout/,
	'or when the statement is timed out');
my $session = start_waiting('waiting');
insert(2, { stall => \1 });
$sandbox->wait_for_journal('mailingcore', sub { 2 == grep { $_->{in_flight} } @_ });
$node->safe_psql('postgres', q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name = 'waiting'});
$session->{run}->finish;
like($session->{stderr}, qr/ERROR: +canceling statement due to user request/, 'it can be cancelled');
is($node->safe_psql('postgres', q{SELECT state, backlog, in_flight FROM contactsync.status WHERE source IS NOT NULL}), 'running|2|2', 'which changes nothing');
$sandbox->clear_faults('mailingcore');
is(stderr_of(q{CALL contactsync_wait('crm')}), '', 'it ends when all is delivered');

insert(3, { latency => 1.5 });
$session = start_waiting('early');
insert(4, { stall => \1 });
$session->{run}->finish;
is($session->{stderr} =~ s/^NOTICE.*\n//mgr, '', 'what is queued later is not waited for');
is($node->safe_psql('postgres', q{SELECT string_agg(key, ',') FROM contactsync.changes}), '4', 'and is under way still');
$sandbox->clear_faults('mailingcore');

# what cannot go on
is(stderr_of(q{CALL contactsync_wait('wrong')}), '', 'a server with nothing to do is not waited for');
my $stderr = stderr_of(q{SELECT contactsync_upsert('wrong', '{"email": "a@example.com"}'); CALL contactsync_wait('wrong')});
like($stderr, qr/ERROR: +server "wrong" cannot go on: unauthorized: MailingCore does not accept the API key/, 'nor is a halted one');
like($stderr, qr/DETAIL: +1 contact stays queued/, 'as it says');
is(stderr_of(q{CALL contactsync_wait('crm')}), '', 'another server is none of its business');

$node->safe_psql('postgres', q{ALTER TABLE customers DROP extra; INSERT INTO customers VALUES (5, 'c5@example.com')});
like(stderr_of(q{CALL contactsync_wait('crm')}), qr/ERROR: +server "crm" cannot go on: the watch on public.customers: column "extra" does not exist/,
	'a watch that does not fit its table any more is not waited for');
is($node->safe_psql('postgres', q{SELECT state, backlog, failures FROM contactsync.status WHERE source IS NOT NULL}), 'broken|1|0', 'nor is it a failure');
$node->safe_psql('postgres', q{ALTER TABLE customers ADD extra int; ALTER SERVER crm OPTIONS (ADD concurrency '3'); CALL contactsync_wait('crm')});
is($node->safe_psql('postgres', q{SELECT state, backlog, failures FROM contactsync.status WHERE source IS NOT NULL}), 'idle|0|0', 'when it is mended it goes on');
is($sandbox->count('mailingcore', account => 'crm')->{contacts}, 5, 'and all have arrived');

$node->stop;
done_testing();
