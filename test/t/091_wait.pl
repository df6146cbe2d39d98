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

# Start a session in the background that calls contactsync_wait().
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

# invalid calls
like(stderr_of(q{CALL contactsync_wait('nobody')}), qr/ERROR: +server "nobody" does not exist/, 'an unknown server is an error');
like(stderr_of(q{CALL contactsync_wait('crm')}, extra_params => [ '-U', 'stranger' ]), qr/ERROR: +permission denied for foreign server crm/,
	'USAGE on the server is required');
like(stderr_of(q{BEGIN; CALL contactsync_wait('crm')}), qr/ERROR: +contactsync_wait\(\) cannot run inside a transaction block/,
	'it refuses to run inside a transaction');
is(stderr_of('CALL contactsync_run()'), '', 'contactsync_run() has nothing to do');

# it waits for changes queued before, and not for later ones
insert(1, { stall => \1 });
like(stderr_of(q{CALL contactsync_wait('crm', '0.3 s')}), qr/ERROR: +timed out with 1 contact still queued/, 'it fails after its timeout');
like(stderr_of(q{SET statement_timeout = '300ms'; CALL contactsync_wait('crm')}), qr/ERROR: +canceling statement due to statement timeout/,
	'it fails after statement_timeout');
my $session = start_waiting('waiting');
insert(2, { stall => \1 });
$sandbox->wait_for_journal('mailingcore', sub { 2 == grep { $_->{in_flight} } @_ });
$node->safe_psql('postgres', q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name = 'waiting'});
$session->{run}->finish;
like($session->{stderr}, qr/ERROR: +canceling statement due to user request/, 'it can be cancelled');
is($node->safe_psql('postgres', q{SELECT state, backlog, in_flight FROM contactsync.status WHERE source IS NOT NULL}), 'running|2|2', 'cancelling it changes nothing');
$sandbox->clear_faults('mailingcore');
is(stderr_of(q{CALL contactsync_wait('crm')}), '', 'it returns when everything is delivered');

insert(3, { latency => 1.5 });
$session = start_waiting('early');
insert(4, { stall => \1 });
$session->{run}->finish;
is($session->{stderr} =~ s/^NOTICE.*\n//mgr, '', 'it does not wait for later changes');
is($node->safe_psql('postgres', q{SELECT string_agg(key, ',') FROM contactsync.changes}), '4', 'the later change is still in flight');
$sandbox->clear_faults('mailingcore');

# it says at once why nothing goes, once, and reports less and less often
create_server($node, $sandbox, 'mailingcore', account => 'down');
$sandbox->fault('mailingcore', { match => { account => 'down' }, times => undef, action => { status => 503 } });
$node->safe_psql('postgres', q{SELECT contactsync_upsert('down', '{"email": "a@example.com"}')});
$node->poll_query_until('postgres', q{SELECT state = 'unavailable' FROM contactsync.status WHERE server = 'down'}) or die 'timed out waiting for the outage';
my $waited = stderr_of(q{CALL contactsync_wait('down', '9 s')});
like($waited, qr/^psql\S+ NOTICE: +server "down" is unavailable: HTTP status 503.*\nDETAIL: +1 contact is queued\.\nHINT: +No action is needed/,
	'it says before anything else that the provider fails, and what to do');
is(scalar(() = $waited =~ /is unavailable: HTTP status 503/g), 1, 'once');
my @progress = $waited =~ m{NOTICE: +(0/1 .*)}g;
like($progress[0], qr{^0/1 +0 % +0\.0/s +unavailable$}, 'the progress names the state instead of an unknown end');
cmp_ok(scalar(@progress), '<=', 3, "nine seconds have three reports at most, after 1, 3 and 8 seconds");
like(stderr_of(q{CALL contactsync_wait(NULL, '0.3 s')}), qr/NOTICE: +server "down" is unavailable/, 'of all servers, it names the one that nothing goes to');

# its queries are short, and compiling them would take seconds
SKIP:
{
	skip 'this server has no JIT', 1 if $node->safe_psql('postgres', 'SELECT pg_jit_available()') ne 't';
	my $waited = stderr_of(
		q{
		LOAD 'auto_explain';
		SET auto_explain.log_min_duration = 0; SET auto_explain.log_analyze = on; SET auto_explain.log_nested_statements = on;
		SELECT contactsync_upsert('down', '{"email": "b@example.com"}');
		SET client_min_messages = log; SET jit_above_cost = 0;
		CALL contactsync_wait('down', '1.5 s')});
	is(scalar(() = $waited =~ /^JIT:/mg), 0, 'nothing is compiled');
}
$sandbox->clear_faults('mailingcore', account => 'down');
is(stderr_of(q{CALL contactsync_wait('down')}) =~ s/^(psql\S+ NOTICE|DETAIL|HINT).*(\n|$)//mgr, '', 'it returns when the provider answers again');

# a single failure changes no state; after a second in which nothing went, it is said as well
create_server($node, $sandbox, 'mailingcore', account => 'once');
$sandbox->fault('mailingcore', { match => { account => 'once' }, times => 1, action => { status => 502 } });
$sandbox->fault('mailingcore', { match => { account => 'once' }, times => undef, action => { stall => \1 } });
$node->safe_psql('postgres', q{SELECT contactsync_upsert('once', '{"email": "a@example.com"}')});
$node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM contactsync.calls WHERE server = 'once'}) or die 'timed out waiting for the failure';
$waited = stderr_of(q{CALL contactsync_wait('once', '3 s')});
like($waited, qr/^psql\S+ NOTICE: +the last call to server "once" failed, and is repeated: HTTP status 502.*\nDETAIL: +1 contact is queued\.\npsql\S+ NOTICE: +0\/1 +0 % +0\.0\/s +ETA unknown/,
	'with the first report');
is(scalar(() = $waited =~ /the last call/g), 1, 'once');
$sandbox->clear_faults('mailingcore', account => 'once');

# servers and watches that cannot continue
is(stderr_of(q{CALL contactsync_wait('wrong')}), '', 'it does not wait for a server without changes');
my $stderr = stderr_of(q{SELECT contactsync_upsert('wrong', '{"email": "a@example.com"}'); CALL contactsync_wait('wrong')});
like($stderr, qr/ERROR: +delivery to server "wrong" cannot continue: unauthorized: MailingCore does not accept the API key/, 'it fails if the server is halted');
like($stderr, qr/DETAIL: +1 contact stays queued/, 'the error counts the queued contacts');
like($stderr, qr/HINT: +Create a key at the provider and set it: ALTER USER MAPPING FOR CURRENT_USER SERVER wrong /, 'and says what to type');
is(stderr_of(q{CALL contactsync_wait('crm')}), '', 'another server does not affect it');

$node->safe_psql('postgres', q{ALTER TABLE customers DROP extra; INSERT INTO customers VALUES (5, 'c5@example.com')});
like(stderr_of(q{CALL contactsync_wait('crm')}), qr/ERROR: +delivery to server "crm" cannot continue: the watch on public.customers: column "extra" does not exist/,
	'it fails if a watch no longer matches its table');
is($node->safe_psql('postgres', q{SELECT state, backlog, failures FROM contactsync.status WHERE source IS NOT NULL}), 'broken|1|0', 'a broken watch causes no failure');
$node->safe_psql('postgres', q{ALTER TABLE customers ADD extra int; ALTER SERVER crm OPTIONS (ADD concurrency '3'); CALL contactsync_wait('crm')});
is($node->safe_psql('postgres', q{SELECT state, backlog, failures FROM contactsync.status WHERE source IS NOT NULL}), 'idle|0|0', 'the watch continues when the error is corrected');
is($sandbox->count('mailingcore', account => 'crm')->{contacts}, 5, 'all contacts arrive');

$node->stop;
done_testing();
