# What a database or a role presets for its sessions does not keep the worker from delivering.

use strict;
use warnings;

use ContactSync;
use IPC::Run;
use Test::More;

my $sandbox = start_sandbox();
my $node = start_node();
sub sql { return $node->safe_psql('postgres', $_[0]); }

create_server($node, $sandbox, 'mailingcore', account => 'mail');
sql(q{
	CREATE TABLE customers (id int PRIMARY KEY, email text);
	SELECT contactsync_watch('customers', 'mail', '{"external_id": "id", "email": "email"}')});

my $worker = q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'contactsync worker'};

# Have the worker replaced by one that was started under the settings of the database.
sub restart_worker
{
	my $pid = sql($worker);

	sql("SELECT pg_terminate_backend($pid)");
	$node->poll_query_until('postgres', "SELECT count(*) = 1 FROM ($worker) w WHERE pid <> $pid") or die 'timed out waiting for a worker';
	return;
}

sub deliver
{
	my ($id) = @_;

	sql("BEGIN; SET TRANSACTION READ WRITE; INSERT INTO customers VALUES ($id, 'c$id\@example.com'); COMMIT; CALL contactsync_wait('mail')");
	is($sandbox->count('mailingcore', account => 'mail')->{contacts}, $id, "row $id arrives");
	return;
}

sql($_) foreach 'ALTER DATABASE postgres SET default_transaction_read_only = on',
  'BEGIN; SET TRANSACTION READ WRITE; ALTER DATABASE postgres SET default_transaction_isolation = serializable; COMMIT',
  'BEGIN; SET TRANSACTION READ WRITE; ALTER ROLE postgres SET default_transaction_read_only = on; COMMIT';
$node->poll_query_until('postgres', "SELECT count(*) = 1 FROM ($worker) w") or die 'timed out waiting for a worker';
# termination is no crash, after which a worker starts later each time
restart_worker() foreach 1 .. 3;
deliver(1);

# nor does the worker take part in conflicts of serializable transactions, whose locks last as long as one of these
my $session = IPC::Run::start(
	[ 'psql', '-XAtq', '-d', $node->connstr('postgres') . ' application_name=serializable', '-c',
		'BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT count(*) FROM pg_class; SELECT pg_sleep(600)' ], '>', '/dev/null', '2>', '/dev/null');
$node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = 'serializable' AND wait_event = 'PgSleep'})
  or die 'timed out waiting for a session';
deliver(2);
is(sql(q{SELECT count(*) FROM pg_locks WHERE mode = 'SIReadLock' AND relation = 'contactsync.queue'::regclass}), '0', 'the worker holds no predicate lock');
sql(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'serializable'});
$session->finish;

$node->stop;
done_testing();
